"""Judges a recorded history of one knowledge base: what clients were told, against what there is (RELIABILITY.md C, the checker).

A history is a list of operations, each with the time in which it happened, its outcome and the generation it was told. Generations
change by compare-and-set only, so the order by generation agrees with real time or no order does: the check takes n log n.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Literal

Content = Mapping[str, str]
"""What a chunk is (a hash of its text and vector), by its id."""


@dataclass(frozen=True, slots=True)
class Event:
    """One operation of one process: from its first try to its last answer. `unknown` may or may not have happened."""

    process: str
    kind: Literal["add", "delete", "read"]
    outcome: Literal["ok", "refused", "unknown"]
    began: float
    ended: float
    generation: int | None = None
    chunk: str = ""
    digest: str = ""


def order_problems(history: Sequence[Event]) -> list[str]:
    """What contradicts real time: a write or read that was told an older generation than one that had ended before it began.

    Nothing is found exactly when some order of all operations explains every answer.
    """
    told = [event for event in history if event.outcome == "ok" and event.generation is not None]
    made = Counter(event.generation for event in told if event.kind != "read")
    found = [f"{count} writes were told generation {generation}" for generation, count in made.items() if count > 1]
    running: list[tuple[float, int]] = []
    newest = 0
    for event in sorted(told, key=lambda one: one.began):
        while running and running[0][0] < event.began:
            newest = max(newest, heappop(running)[1])
        generation = event.generation or 0
        if generation < newest + (event.kind != "read"):
            found.append(f"{event} began after generation {newest} was known")
        heappush(running, (event.ended, generation))
    return found


def chain_problems(history: Sequence[Event], changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with the list of generations: one write each, none missing, counts that add up, and each acknowledged write in it."""
    chain = {change["generation"]: change for change in changes}
    found = [] if sorted(chain) == list(range(1, len(changes) + 1)) else [f"no chain: {len(changes)} changes, {len(chain)} generations"]
    count = 0
    for generation in sorted(chain):
        count += chain[generation]["chunks_delta"]
        if chain[generation]["chunk_count"] != count:
            found.append(f"generation {generation} counts {chain[generation]['chunk_count']} chunks, its history {count}")
    for event in history:
        if event.kind == "read" or event.outcome != "ok":
            continue
        kind = chain.get(event.generation or 0, {}).get("kind")
        if kind != event.kind:
            found.append(f"{event} is in the list of generations as {kind}")
    found += _crowded(history, Counter(change["kind"] for change in changes))
    return found


def _crowded(history: Sequence[Event], listed: Mapping[str, int]) -> list[str]:
    """More generations than anyone can have made."""
    found = []
    for kind in ("add", "delete"):
        possible = sum(event.kind == kind and event.outcome != "refused" for event in history)
        if listed.get(kind, 0) > possible:
            found.append(f"{listed[kind]} generations of kind {kind}, {possible} writes can have made one")
    return found


def content_problems(history: Sequence[Event], generation: int, content: Content) -> list[str]:
    """How what a generation holds differs from what was acknowledged up to it: every chunk and every byte, not counts."""
    digests = {event.chunk: event.digest for event in history if event.kind == "add"}
    by_chunk: dict[str, list[Event]] = {}
    for event in history:
        by_chunk.setdefault(event.chunk, []).append(event)
    found = [f"generation {generation} has {chunk}, which nobody added" for chunk in sorted(content.keys() - digests.keys())]
    for chunk, digest in digests.items():
        allowed = _allowed(by_chunk[chunk], generation)
        if (chunk in content) not in allowed:
            found.append(f"generation {generation}: {chunk} is {'there' if chunk in content else 'not there'}")
        elif chunk in content and content[chunk] != digest:
            found.append(f"generation {generation}: {chunk} has another text or vector")
    return found


def _allowed(events: Sequence[Event], generation: int) -> set[bool]:
    """Whether a chunk may be there: it is added once, and deleted at most once after that was acknowledged."""
    added = _happened([event for event in events if event.kind == "add"], generation)
    deleted = _happened([event for event in events if event.kind == "delete"], generation)
    return {was and not gone for was in added for gone in deleted}


def _happened(events: Sequence[Event], generation: int) -> set[bool]:
    """Whether a write had happened in that generation, as far as its client knows."""
    if not events or events[0].outcome == "refused":
        return {False}
    if events[0].outcome == "unknown":
        return {False, True}
    return {(events[0].generation or 0) <= generation}


def backward_problems(history: Sequence[Event]) -> list[str]:
    """Processes that were told an older generation after a newer one, whatever the time between."""
    found, last = [], dict[str, int]()
    for event in history:
        if event.outcome == "ok" and event.generation is not None:
            if event.generation < last.get(event.process, 0):
                found.append(f"{event} after generation {last[event.process]}")
            last[event.process] = event.generation
    return found
