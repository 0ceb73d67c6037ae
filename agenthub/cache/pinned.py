"""Servers without failover: each key is on one server or nowhere, so that what one process puts there no other can miss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agenthub.cache.fleet import Fleet
from agenthub.cache.server import Server


class PinnedFleet(Fleet):
    """A `Fleet` for what has to be seen by everybody at once.

    A key whose server doesn't answer is a miss, never looked for on another one, which may hold something older. Keys carry no edition,
    so a flush has no effect; a process whose view of an edition is seconds old would ask for another name.
    """

    def flush(self, namespace: str) -> bool:  # noqa: ARG002 - as `Cache` has it
        """Nothing can be flushed."""
        return False

    def _grouped(self, names: Iterable[str]) -> list[tuple[Server, list[str]]]:
        groups: dict[Server, list[str]] = {}
        for name in names:
            server = self._order_of(name)[0]
            if server.available:
                groups.setdefault(server, []).append(name)
            else:
                self._unasked(name)
        return list(groups.items())

    def _physical(self, keys: Sequence[str]) -> Mapping[str, str]:
        return {key: key for key in keys}
