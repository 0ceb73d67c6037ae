"""Threads that others come before."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Final

NICENESS: Final = 10
"""Of background threads: the kernel gives them about a tenth of a processor that others want too, and all of an idle one."""

TURN_SECONDS: Final = 0.0005


def give_way() -> None:
    """Lower the priority of the calling thread for good, where the system lets threads have their own (Linux)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class ShortTurns:
    """While a block of any thread is in `with`, threads that run Python take turns ten times as often.

    Python lets a thread go on for 5 ms before another gets its lock. A thread behind the requests that is busy for long costs each
    search several such waits, and leaves encoders idle.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._usual_seconds = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._blocks:
                self._usual_seconds = sys.getswitchinterval()
                sys.setswitchinterval(min(TURN_SECONDS, self._usual_seconds))
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                sys.setswitchinterval(self._usual_seconds)
