"""Reading pages of sites as a polite visitor: robots.txt first, and the pauses it asks for."""

from __future__ import annotations

import time
from collections.abc import Callable

from agenthub.fetching.fetch import Conditions, Fetched, Fetcher, parse_url
from agenthub.fetching.robots import Robots
from agenthub.fetching.sitemaps import MAX_SITEMAP_BYTES, listed


class Visitor:
    """Fetches pages and sitemaps where robots.txt admits us; one after the other, with the site's pause in between."""

    def __init__(self, fetcher: Fetcher, robots: Robots, sleep: Callable[[float], None] = time.sleep) -> None:
        self._fetcher = fetcher
        self._robots = robots
        self._sleep = sleep
        self._last: dict[str, float] = {}

    def read(self, url: str, have: Conditions | None = None, max_bytes: int | None = None) -> Fetched:
        """What is at the address. Every redirect is asked of the robots.txt of where it leads.

        Raises: as `Fetcher.fetch` and `Robots.check`.
        """
        self._wait(url)
        try:
            return self._fetcher.fetch(url, have, max_bytes=max_bytes, may=self._robots.check)
        finally:
            self._last[parse_url(url).host] = time.monotonic()

    def sitemap(self, url: str, most: int) -> list[str]:
        """The addresses that a sitemap lists.

        Raises: as `listed`.
        """
        return listed(lambda address: self.read(address, max_bytes=MAX_SITEMAP_BYTES), url, most)

    def _wait(self, url: str) -> None:
        host = parse_url(url).host
        if host in self._last:
            left = self._last[host] + self._robots.pause_seconds(url) - time.monotonic()
            if left > 0:
                self._sleep(left)
