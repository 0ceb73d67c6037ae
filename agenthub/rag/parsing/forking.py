"""Where the processes that read documents come from: one server to fork them, started when first needed and once a process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from agenthub.core.errors import RateLimited
from agenthub.rag.parsing.fork_server import KINDS, NOT_FORKED, STATUS
from agenthub.rag.parsing.kinds import Kind

PROJECT_ROOT: Final = Path(__file__).resolve().parents[3]
SERVER: Final = "agenthub.rag.parsing.fork_server"
_BUSY_SECONDS: Final = 5.0
_LOWEST_NICENESS: Final = 0


class ServerGone(Exception):
    """The server ended with the child unfinished: somebody killed it, which says nothing about the document."""


class Forked:
    """A child that waits for its request on `line`. `end` it in any case."""

    def __init__(self, line: socket.socket, lifeline: socket.socket) -> None:
        self.line = line
        self._lifeline = lifeline
        self._told = b""

    def exit_code(self, seconds: float) -> int | None:
        """The exit status, negative for a signal; None when the child lives on for so long.

        Raises: RateLimited when the machine could not start it; ServerGone.
        """
        self._lifeline.settimeout(seconds)
        try:
            self._told = self._told or self._lifeline.recv(STATUS.size)
        except TimeoutError:
            return None
        except ConnectionError as error:
            raise ServerGone from error
        if len(self._told) != STATUS.size:
            raise ServerGone
        (code,) = STATUS.unpack(self._told)
        if code == NOT_FORKED:
            raise busy()
        return int(code)

    def end(self, seconds: float) -> None:
        """Have it killed if it lives, and wait so long for it to be gone."""
        with suppress(OSError, RateLimited, ServerGone):
            self._lifeline.shutdown(socket.SHUT_WR)
            self.exit_code(seconds)
        self.line.close()
        self._lifeline.close()


class Forking:
    """The server of this process."""

    def __init__(self, module: str = SERVER) -> None:
        """`module` is what is run; tests run one whose children misbehave."""
        self._module = module
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._owner = 0

    def start(self, kind: Kind) -> Forked:
        """A new child, with the parser of this kind loaded, at the priority of the calling thread.

        Raises: RateLimited when the machine can start no process now.
        """
        line, its_line = socket.socketpair()
        lifeline, its_lifeline = socket.socketpair()
        niceness = max(_LOWEST_NICENESS, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        order = bytes([KINDS.index(kind), niceness])
        with its_line, its_lifeline:
            try:
                self._order(order, [its_line.fileno(), its_lifeline.fileno()])
            except OSError as error:
                line.close()
                lifeline.close()
                raise busy() from error
        return Forked(line, lifeline)

    def close(self) -> None:
        """Let the server and all its children end."""
        with self._lock:
            self._forget()

    def _order(self, order: bytes, descriptors: list[int]) -> None:
        with self._lock:
            if self._control is not None and self._owner == os.getpid():
                with suppress(OSError):
                    socket.send_fds(self._control, [order], descriptors)
                    return
            self._forget()
            socket.send_fds(self._started(), [order], descriptors)

    def _started(self) -> socket.socket:
        control, its_control = socket.socketpair()
        # -P: the working directory is no source of code; -s: nor the user's home; -B: it may write no file.
        command = [sys.executable, "-P", "-s", "-B", "-m", self._module]
        try:
            with its_control:
                process = subprocess.Popen(  # noqa: S603 - a command of our own; documents go to its children by sockets
                    command,
                    stdin=its_control.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={"PYTHONPATH": str(PROJECT_ROOT), "LC_ALL": "C.UTF-8"},
                    cwd="/",
                    close_fds=True,
                    start_new_session=True,
                )
        except OSError:
            control.close()
            raise
        threading.Thread(target=process.wait, name="fork-server", daemon=True).start()  # it ends by itself when idle
        self._control, self._owner = control, os.getpid()
        return control

    def _forget(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.close()


def busy() -> RateLimited:
    """The refusal while the machine can start no process."""
    return RateLimited("the server is too busy to read documents now", retry_after_seconds=_BUSY_SECONDS)
