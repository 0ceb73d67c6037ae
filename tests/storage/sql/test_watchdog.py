"""Calls that outlast their time are ended, others are not."""

from __future__ import annotations

import socket
import threading

import pytest

from agenthub.core.errors import StorageUnavailable
from agenthub.storage import outage as outages
from agenthub.storage.outage import Outage
from agenthub.storage.sql.limits import deadline, expired, remaining_seconds, unlimited
from agenthub.storage.sql.watchdog import Watchdog


def test_a_call_that_takes_too_long_is_ended() -> None:
    ours, theirs = socket.socketpair()
    with Watchdog().limit(ours, 0.05):
        assert ours.recv(1) == b""  # shut down: without that this would wait for ever
    ours.close()
    theirs.close()


def test_the_shortest_of_many_calls_is_ended_first() -> None:
    watchdog = Watchdog()
    pairs = [socket.socketpair() for _ in range(8)]
    ended: list[int] = []

    def call(number: int) -> None:
        with watchdog.limit(pairs[number][0], 30.0 if number < 7 else 0.05):
            if pairs[number][0].recv(1) == b"":
                ended.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    threads[7].join(timeout=30)
    for _, theirs in pairs[:7]:
        theirs.sendall(b"x")
    for thread in threads:
        thread.join(timeout=30)
    assert ended == [7]
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_call_that_ended_in_time_keeps_its_line() -> None:
    watchdog = Watchdog()
    ours, theirs = socket.socketpair()
    with watchdog.limit(ours, 0.02):
        pass
    with watchdog.limit(*(socket.socketpair()[0], 0.05)):
        threading.Event().wait(0.15)
    theirs.sendall(b"x")
    assert ours.recv(1) == b"x"
    ours.close()
    theirs.close()


def test_deadlines_nest_and_end() -> None:
    assert unlimited()
    assert remaining_seconds(5.0) == 5.0
    with deadline(2.0):
        assert 0 < remaining_seconds(5.0) <= 2.0
        assert not expired()
        with deadline(None):
            assert unlimited()
        with deadline(0.0):
            assert expired()
            assert remaining_seconds(5.0) > 0
        assert not expired()
    assert unlimited()


def test_an_outage_is_remembered_and_tried_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("agenthub.storage.outage.time.monotonic", lambda: now)
    outage = Outage()
    outage.check()
    outage.failed()
    with pytest.raises(StorageUnavailable) as refusal:
        outage.check()
    assert refusal.value.retry_after_seconds
    now += outages.OUTAGE_SECONDS
    outage.check()  # this caller tries
    with pytest.raises(StorageUnavailable):
        outage.check()  # others wait for what it finds
    outage.recovered()
    outage.check()
