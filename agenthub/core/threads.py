"""Threads that others come before."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final

NICENESS: Final = 10
"""Of background threads: the kernel gives them about a tenth of a processor that others want too, and all of an idle one."""


def give_way() -> None:
    """Lower the priority of the calling thread for good, where the system lets threads have their own (Linux)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
