"""The cache's benchmark counts round trips and computes ratios as it says."""

from __future__ import annotations

import socket

from benchmarks.cache.__main__ import LINES, Line, table
from benchmarks.cache.figures import round_trips
from benchmarks.cache.relay import CountingRelay
from benchmarks.peers.workload import make_workload
from tests.servers.memcached import MemcachedServer


def test_the_relay_counts_questions_not_packets(memcached: MemcachedServer) -> None:
    relay = CountingRelay(memcached.port)
    with socket.create_connection(("127.0.0.1", relay.port)) as line:
        for _ in range(3):
            line.sendall(b"get a")
            line.sendall(b" b\r\n")
            assert line.recv(100) == b"END\r\n"
    assert relay.taken() == 3
    assert relay.taken() == 0
    relay.close()


def test_a_hundred_known_texts_are_one_round_trip_to_each_server() -> None:
    """One of the issue's targets, which needs no quiet machine."""
    assert round_trips(make_workload(1500)) == {"round_trips": 1.0}


def test_ratios_and_bounds() -> None:
    least, most = Line("a", "x", "y", 2), Line("b", "x", "y", 2, most=True)
    assert (least.value({"x": 6.0, "y": 2.0}), least.met({"x": 6.0, "y": 2.0}), most.met({"x": 6.0, "y": 2.0})) == (3.0, True, False)
    assert Line("c", "x", None, None).met({"x": 9.0})


def test_the_table_marks_what_is_not_kept() -> None:
    seen = {name: 1.0 for line in LINES for name in (line.above, line.below) if name}
    shown = table(seen, "heading").splitlines()
    assert shown[0] == "heading"
    assert next(line for line in shown if line.startswith("repeated hybrid")).endswith(">= 1.5 !")
    assert next(line for line in shown if line.startswith("round trips")).endswith("<= 1")
