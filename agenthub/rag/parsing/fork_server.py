"""The process from which those that read documents are forked: `python -m agenthub.rag.parsing.fork_server`, started by `forking` only.

Starting Python and importing a parser takes twenty times as long as reading a page, so it is done once here. This process looks at no
document and has one thread. Standard input is a socket on which each order comes as two bytes with two sockets: the child's line, on
which it reads its request and answers, and its lifeline, which stays here. The end of the lifeline is the order to kill the child; the
child's exit status is written to it. When nobody is left at the other end, or nothing was ordered for a minute, this process ends. Its
children end with it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from agenthub.rag.parsing import child
from agenthub.rag.parsing.kinds import OFFICE_KINDS, Kind
from agenthub.rag.parsing.read import load_parser

ORDER_BYTES: Final = 2
STATUS: Final = struct.Struct("!i")
NOT_FORKED: Final = 1 << 16
"""Told instead of an exit status when the machine can start no process now."""
IDLE_SECONDS: Final = 60.0
KINDS: Final = tuple(Kind)
_PR_SET_PDEATHSIG: Final = 1
_FIRST_FREE: Final = 3
_MOST_FILES: Final = 1024


class ForkServer:
    """Forks, kills and reaps the children."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lifelines: dict[int, socket.socket] = {}
        self._loaded: set[Kind] = set()
        self._prctl: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "prctl", None)  # Linux has it
        self._selector = selectors.DefaultSelector()
        ended, told = os.pipe()
        os.set_blocking(told, False)
        os.set_blocking(ended, False)
        self._ended = ended
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        self._selector.register(control, selectors.EVENT_READ, self._ordered)
        self._selector.register(ended, selectors.EVENT_READ, self._reap)

    def run(self) -> None:
        """Work until nobody orders any more."""
        while True:
            ready = self._selector.select(None if self._lifelines else IDLE_SECONDS)
            if not ready and not self._lifelines:
                return
            for key, _ in ready:
                act: Callable[[], None] = key.data
                act()

    def _ordered(self) -> None:
        order, descriptors, _, _ = socket.recv_fds(self._control, ORDER_BYTES, 2)
        if len(order) != ORDER_BYTES or len(descriptors) != 2:
            self._end()
        line, lifeline = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        self._load(KINDS[order[0]])
        try:
            pid = os.fork()
        except OSError:
            _tell(lifeline, NOT_FORKED)
            lifeline.close()
        else:
            if pid == 0:
                self._become_child(line, order[1])
            self._lifelines[pid] = lifeline
            self._selector.register(lifeline, selectors.EVENT_READ, lambda: self._kill(pid, lifeline))
        line.close()

    def _load(self, kind: Kind) -> None:
        """Have the parsers of this kind here, so that no child has to import them. What can't be imported fails in the child."""
        if kind in self._loaded:
            return
        self._loaded.add(kind)
        for one in sorted(OFFICE_KINDS) if kind is Kind.OFFICE else [kind]:
            with suppress(ImportError):
                load_parser(one)
        gc.collect()
        gc.freeze()  # children that collect garbage would copy every page of it

    def _kill(self, pid: int, lifeline: socket.socket) -> None:
        """The lifeline has ended. Unless it was reaped a moment ago, the child has its id and its group still."""
        if self._lifelines.get(pid) is lifeline:
            self._selector.unregister(lifeline)
            _kill_group(pid)

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._ended, 4096)
        for pid, lifeline in list(self._lifelines.items()):
            with suppress(ChildProcessError):
                status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if status is None:
                    continue
            _kill_group(pid)  # whatever it started
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            _tell(lifeline, code)
            with suppress(KeyError):
                self._selector.unregister(lifeline)
            lifeline.close()
            del self._lifelines[pid]

    def _become_child(self, line: socket.socket, niceness: int) -> NoReturn:
        """In the forked process: keep nothing but the line, read the document, and end."""
        try:
            os.setsid()
            if self._prctl is not None:
                self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(line.fileno(), 0)
            os.closerange(_FIRST_FREE, _MOST_FILES)
            os.nice(max(0, niceness - os.getpriority(os.PRIO_PROCESS, 0)))
            child.serve(0)
        finally:
            os._exit(1)

    def _end(self) -> NoReturn:
        for pid in self._lifelines:
            _kill_group(pid)
        os._exit(0)


def _tell(lifeline: socket.socket, status: int) -> None:
    with suppress(OSError):
        lifeline.send(STATUS.pack(status))


def _kill_group(pid: int) -> None:
    """Kill the child and its group; it may not have made its group yet."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def main() -> None:
    """Serve the socket that is standard input."""
    # openpyxl would import numpy, if installed, only to recognise its numbers: 0.3 s and 100 MB of address space.
    sys.modules["numpy"] = None  # type: ignore[assignment]
    server = ForkServer(socket.socket(fileno=os.dup(0)))
    server.run()


if __name__ == "__main__":
    main()
