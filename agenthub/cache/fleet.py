"""A cache on servers: each key has one of them, or the next when that one is down; whatever fails is a miss and counted."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import Final, TypeVar

from agenthub.cache.contract import MAX_TTL_SECONDS, MAX_VALUE_BYTES, SEAL_BYTES, CacheStatistics, ServerStatistics, checked_ttl_seconds
from agenthub.cache.keys import kind_of
from agenthub.cache.server import Node, Server, ServerDown, ValueRefused
from agenthub.core.observe import Observer, Unobserved

T = TypeVar("T")
EDITION_SECONDS: Final = 5.0
"""For so long a process trusts its knowledge of a namespace's edition: the time after which a flush holds everywhere."""
LARGEST_BYTES: Final = MAX_VALUE_BYTES + SEAL_BYTES
_SLOTS: Final = 4096
_EDITION: Final = re.compile(rb"[0-9a-f]{16}\Z")
_COUNTER: Final = "#"


@dataclass(slots=True)
class _Edition:
    """The name that a namespace's keys carry; another one after each flush."""

    name: str
    seen_at: float


class Fleet:
    """Implements `Cache` over one or several servers. No key is listed or deleted to flush: its namespace gets a new edition."""

    def __init__(self, backend: str, servers: Sequence[Server], observer: Observer | None = None) -> None:
        """`observer` is told of what fails, `cache_errors_total` by kind of entry and reason: `failed`, or `down` for unasked."""
        self._backend = backend
        self._servers = tuple(servers)
        self._observer: Observer = observer or Unobserved()
        self._orders = [self._order(slot) for slot in range(_SLOTS)]
        self._editions: dict[str, _Edition] = {}
        self._lock = threading.Lock()
        self._hits = self._misses = self._errors = 0

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Cache.get_many`."""
        wanted = list(dict.fromkeys(keys))
        physical = self._physical(wanted)
        found: dict[str, bytes] = {}
        for server, names in self._grouped(physical):
            answer: dict[str, bytes] = self._try(server, methodcaller("get_many", names), {}, names[0])
            found.update((physical[name], value) for name, value in answer.items() if name in physical and isinstance(value, bytes))
        with self._lock:
            self._hits += len(found)
            self._misses += len(wanted) - len(found)
        return found

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """See `Cache.set_many`."""
        ttl_seconds = checked_ttl_seconds(ttl_seconds)
        physical = self._physical(list(items))
        for server, names in self._grouped(physical):
            fitting = {name: items[physical[name]] for name in names if len(items[physical[name]]) <= LARGEST_BYTES}
            large = [name for name in names if name not in fitting]
            if large:
                self._try(server, methodcaller("delete_many", large), None, names[0])
            if fitting:
                self._try(server, methodcaller("set_many", fitting, ttl_seconds), None, names[0])

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """See `Cache.add`."""
        ttl_seconds = checked_ttl_seconds(ttl_seconds)
        for server, (name,) in self._grouped(self._physical([key])) if len(value) <= LARGEST_BYTES else ():
            return self._try(server, methodcaller("add", name, value, ttl_seconds), False, name)
        return False

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int | None:
        """See `Cache.increment`."""
        ttl_seconds = checked_ttl_seconds(ttl_seconds)
        for server, (name,) in self._grouped(self._physical([key])):
            total: int | None = self._try(server, methodcaller("increment", name + _COUNTER, amount, ttl_seconds), None, name)
            return total
        return None

    def flush(self, namespace: str) -> bool:
        """See `Cache.flush`."""
        edition = secrets.token_hex(8)
        for server, (name,) in self._grouped([_edition_key(namespace)]):
            kept = self._try(server, partial(_keep, name=name, edition=edition), False, name)
            if kept:
                self._editions[namespace] = _Edition(edition, time.monotonic())
            return kept
        return False

    def statistics(self) -> CacheStatistics:
        """See `Cache.statistics`."""
        servers = tuple(self._try(s, methodcaller("statistics", s.address), _silent(s), "") for s in self._servers)
        with self._lock:
            hits, misses, errors = self._hits, self._misses, self._errors
        sums = (_sum(s.entries for s in servers), _sum(s.size_bytes for s in servers), _sum(s.max_bytes for s in servers))
        evictions = _sum(s.evictions for s in servers)
        return CacheStatistics(self._backend, *sums, hits, misses, evictions, errors, servers=servers)

    def check(self) -> tuple[ServerStatistics, ...]:
        """See `Cache.check`."""
        return tuple(server.check() for server in self._servers)

    def close(self) -> None:
        """See `Cache.close`."""
        for server in self._servers:
            server.close()

    def _order(self, slot: int) -> tuple[Server, ...]:
        """All servers, by who is asked first for this slot: when one is gone, only its own keys move."""
        return tuple(sorted(self._servers, key=lambda server: hashlib.sha256(f"{slot}/{server.address}".encode()).digest()))

    def _grouped(self, names: Iterable[str]) -> list[tuple[Server, list[str]]]:
        """The names by the server that is asked for them; those without a server are left out and counted."""
        groups: dict[Server, list[str]] = {}
        unasked = ""
        for name in names:
            server = next((server for server in self._order_of(name) if server.available), None)
            if server is not None:
                groups.setdefault(server, []).append(name)
            else:
                unasked = name
        if unasked:
            self._unasked(unasked)
        return list(groups.items())

    def _order_of(self, name: str) -> tuple[Server, ...]:
        """All servers, by who is asked first for this name."""
        return self._orders[int.from_bytes(hashlib.blake2b(name.encode(), digest_size=2).digest()) % _SLOTS]

    def _unasked(self, name: str) -> None:
        """Count what no server was asked for."""
        self._observer.count("cache_errors_total", kind=kind_of(name), reason="down")

    def _physical(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The keys by their names on the servers, which carry the edition; empty when the edition can't be found out."""
        editions = {namespace: self._edition(namespace) for namespace in {key.partition("/")[0] for key in keys}}
        return {f"{key}~{edition}": key for key in keys if (edition := editions[key.partition("/")[0]])}

    def _edition(self, namespace: str) -> str | None:
        known = self._editions.get(namespace)
        if known is not None and time.monotonic() - known.seen_at < EDITION_SECONDS:
            return known.name
        for server, (name,) in self._grouped([_edition_key(namespace)]):
            preferred = known.name if known else secrets.token_hex(8)
            found = self._try(server, partial(_agree, name=name, preferred=preferred), None, name)
            if found is not None:
                self._editions[namespace] = _Edition(found, time.monotonic())
                return found
        return known.name if known else None

    def _try(self, server: Server, question: Callable[[Node], T], otherwise: T, name: str) -> T:
        """The answer, or `otherwise` after a failure, which is counted under the kind of `name`."""
        try:
            return server.ask(question)
        except ServerDown:
            self._observer.count("cache_errors_total", kind=kind_of(name), reason="down")
        except Exception:  # clients raise errors of many kinds, some by races of their own (design/COMPONENTS.md)
            with self._lock:
                self._errors += 1
            self._observer.count("cache_errors_total", kind=kind_of(name), reason="failed")
        return otherwise


def _edition_key(namespace: str) -> str:
    return f"{namespace}/edition"


def _keep(node: Node, name: str, edition: str) -> bool:
    node.set_many({name: edition.encode()}, MAX_TTL_SECONDS)
    return True


def _agree(node: Node, name: str, preferred: str) -> str:
    """The edition that all processes use: the one kept, or ours when there is none."""
    for _ in range(3):
        found = node.get_many([name]).get(name)
        if found is not None and _EDITION.match(found):
            return found.decode()
        if found is not None:
            node.delete_many([name])
        if node.add(name, preferred.encode(), MAX_TTL_SECONDS):
            return preferred
    raise ValueRefused("the edition comes and goes")


def _silent(server: Server) -> ServerStatistics:
    return ServerStatistics(server.address, ok=False, reason="it does not answer")


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
