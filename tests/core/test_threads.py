"""Threads that others come before, and how often they take turns."""

from __future__ import annotations

import os
import sys
import threading

from agenthub.core.threads import NICENESS, TURN_SECONDS, ShortTurns, give_way


def test_turns_are_short_until_the_last_block_has_ended() -> None:
    turns, usual = ShortTurns(), sys.getswitchinterval()
    with turns:
        with turns:
            assert abs(sys.getswitchinterval() - TURN_SECONDS) < 1e-5
        assert abs(sys.getswitchinterval() - TURN_SECONDS) < 1e-5
    assert sys.getswitchinterval() == usual


def test_a_thread_that_gives_way_does_so_alone() -> None:
    seen: list[int] = []

    def low() -> None:
        give_way()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=low)
    thread.start()
    thread.join()
    assert seen == [max(NICENESS, before)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
