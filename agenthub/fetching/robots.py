"""What a site asks robots not to fetch (RFC 9309)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from protego import Protego

from agenthub.core.errors import AddressRefused
from agenthub.fetching.fetch import USER_AGENT, Fetcher, parse_url

MAX_ROBOTS_BYTES: Final = 500 * 1024
_KEPT_SITES: Final = 256
_KEPT_SECONDS: Final = 3600.0
_LONGEST_PAUSE_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Rules:
    parsed: Protego
    known_until: float


class Robots:
    """The robots.txt of sites, each read once an hour. Safe to use from many threads."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._sites: OrderedDict[str, _Rules] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, url: str) -> None:
        """Return if the site lets us fetch this address.

        Raises: AddressRefused when it doesn't; FetchFailed when its rules can't be read now, which means no (RFC 9309, 2.3.1.4).
        """
        if not self._rules(url).can_fetch(url, USER_AGENT):
            raise AddressRefused("the site's robots.txt does not admit AgentHub to this address")

    def pause_seconds(self, url: str) -> float:
        """How long the site wants us to wait between two fetches; at most 5 seconds."""
        delay = self._rules(url).crawl_delay(USER_AGENT)
        return min(float(delay or 0), _LONGEST_PAUSE_SECONDS)

    def _rules(self, url: str) -> Protego:
        parsed = parse_url(url)
        site = str(parsed.copy_with(raw_path=b"/robots.txt"))
        with self._lock:
            known = self._sites.get(site)
            if known and known.known_until > time.monotonic():
                self._sites.move_to_end(site)
                return known.parsed
        rules = Protego.parse(self._text(site))
        with self._lock:
            self._sites[site] = _Rules(rules, time.monotonic() + _KEPT_SECONDS)
            while len(self._sites) > _KEPT_SITES:
                self._sites.popitem(last=False)
        return rules

    def _text(self, address: str) -> str:
        """The rules; none where the site has no such file."""
        try:
            found = self._fetcher.fetch(address, max_bytes=MAX_ROBOTS_BYTES, cut=True)
        except AddressRefused as refusal:
            if refusal.status is None:
                raise
            return ""
        return found.data.decode("utf-8", errors="replace")
