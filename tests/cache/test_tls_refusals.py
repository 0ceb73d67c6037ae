"""What TLS refused is found behind an error, and looking for it ends whatever the errors' causes are."""

from __future__ import annotations

import ssl

import pytest

from agenthub.cache.tls import refusal


def test_it_is_found_behind_others() -> None:
    outer = ConnectionError("outer")
    outer.__cause__ = OSError("between")
    outer.__cause__.__context__ = ssl.SSLError("inner")
    assert "does not speak" in (refusal(outer) or "")
    assert refusal(ConnectionError("nothing of that kind")) is None


@pytest.mark.timeout(60)
def test_a_ring_of_causes_has_an_end() -> None:
    """redis-py under a server that dies and comes back: its errors' contexts came to be a ring, and a thread looked for ever."""
    first, second, third = ConnectionError("a"), TimeoutError("b"), OSError("c")
    first.__context__, second.__context__, third.__context__ = second, third, second
    assert refusal(first) is None
