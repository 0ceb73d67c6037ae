"""A client that gives up after a second and sends the same again, while the first request is still at work (RELIABILITY.md T18)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import httpx

PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Repeated:
    """The answer that a client got in the end, and how many requests it had given up before."""

    answer: httpx.Response
    dropped: int


def repeated(urls: Sequence[str], token: str, path: str, body: Any, key: str, *, drops: int, seconds: float = 1.0) -> Repeated:
    """Send a write under one Idempotency-Key to each address in turn, and hang up after `seconds`, so often; then wait for its answer.

    Each attempt has a connection of its own, which is closed in the midst of the request.
    """
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    limit, dropped = time.monotonic() + PATIENCE_SECONDS, 0
    for url in cycle(urls):
        wait = seconds if dropped < drops else PATIENCE_SECONDS
        try:
            answer = httpx.post(f"{url}{path}", json=body, headers=headers, timeout=httpx.Timeout(PATIENCE_SECONDS, read=wait))
        except httpx.ReadTimeout:
            dropped += 1
            continue
        if answer.status_code not in (202, 409, 429, 503):
            return Repeated(answer, dropped)
        assert time.monotonic() < limit, answer.text
        time.sleep(0.2)
    raise AssertionError("there is no address to send to")


def long_text(name: str, paragraphs: int) -> str:
    """A text of about as many chunks, unlike all others: the embedded model needs seconds for a few hundred."""
    return "\n\n".join(f"Paragraph {number} of {name}. " + "It says a little more of the same. " * 25 for number in range(paragraphs))
