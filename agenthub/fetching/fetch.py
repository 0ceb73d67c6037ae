"""One fetch of an address from outside, safe whatever the address, its resolver or its server do (RELIABILITY.md D2-8)."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import httpcore2
import httpx2

from agenthub.core.errors import AddressRefused, FetchFailed, PayloadTooLarge
from agenthub.fetching.addresses import Address, check_name, checked
from agenthub.fetching.configuration import FetchSettings
from agenthub.fetching.connecting import Budget, CheckedBackend, Resolver, resolve, resolve_within

USER_AGENT: Final = "AgentHub"
"""The name that robots.txt knows us by."""
MAX_URL_CHARACTERS: Final = 2_000
_PORTS: Final = {"https": 443, "http": 80}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BUSY: Final = frozenset({408, 425, 429})

HopCheck = Callable[[str], None]
"""Called with every address before it is asked; it raises where that address is not to be fetched."""


def _anything(_url: str) -> None:
    """Every address may be asked."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an address answered. `url` is where it was found after redirects.

    `status` is 200, or 304 with no data when it still is what the caller had.
    """

    url: str
    status: int
    media_type: str | None
    etag: str | None
    last_modified: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a caller has already: the validators of an earlier answer."""

    etag: str | None = None
    last_modified: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers for them."""
        pairs = (("if-none-match", self.etag), ("if-modified-since", self.last_modified))
        return {name: value for name, value in pairs if value}


@dataclass(frozen=True, slots=True)
class _Hop:
    status: int
    headers: Mapping[str, str]
    data: bytes


class Fetcher:
    """Fetches addresses by GET, without credentials, cookies or proxies. Safe to use from many threads.

    `resolver` and `trusted` (the certificates) are the system's unless a test brings its own.
    """

    def __init__(self, settings: FetchSettings, resolver: Resolver = resolve, trusted: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._resolver = resolver
        self._given = trusted
        self._lock = threading.Lock()

    def fetch(
        self,
        url: str,
        have: Conditions | None = None,
        *,
        max_bytes: int | None = None,
        cut: bool = False,
        may: HopCheck = _anything,
    ) -> Fetched:
        """What is at the address; with `cut`, at most the first `max_bytes` of it.

        Raises: AddressRefused when it may not be fetched or its server refuses; FetchFailed when it can't be fetched now;
        PayloadTooLarge.
        """
        most = self._settings.max_bytes if max_bytes is None else max_bytes
        # Headers and TLS records come on top of the content.
        budget = Budget(time.monotonic() + self._settings.total_seconds, most + 1_000_000)
        current = parse_url(url)
        for _ in range(self._settings.redirects + 1):
            may(str(current))
            hop = self._ask(current, (have or Conditions()).headers, budget, most, cut)
            if hop.status not in _REDIRECTS:
                return _fetched(current, hop)
            current = _next(current, hop)
        raise AddressRefused(f"this address redirects more than {self._settings.redirects} times")

    def _ask(self, url: httpx2.URL, headers: Mapping[str, str], budget: Budget, most: int, cut: bool) -> _Hop:
        addresses = self._addresses(url, budget)
        settings = self._settings
        backend = CheckedBackend(addresses, budget, settings.connect_seconds, settings.silent_seconds)
        sent = {"host": url.netloc.decode("ascii"), "user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"}
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        try:
            with httpcore2.ConnectionPool(ssl_context=self._trusted, network_backend=backend, max_connections=1) as pool:
                fields = [(name.encode(), value.encode("latin-1", "ignore")) for name, value in {**sent, **headers}.items()]
                with pool.stream("GET", target, headers=fields) as response:
                    return _read(response, most, cut)
        except httpcore2.TimeoutException as error:
            raise FetchFailed("fetching took too long") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            raise FetchFailed("the server can't be reached, or does not speak HTTP as it should") from error

    def _addresses(self, url: httpx2.URL, budget: Budget) -> tuple[Address, ...]:
        """The checked addresses of the host, resolved once: nobody asks the resolver again for this hop."""
        host = url.raw_host.decode("ascii").strip("[]")
        port = url.port or _PORTS[url.scheme]
        check_name(host)
        found = resolve_within(self._resolver, host, port, budget, self._settings.connect_seconds)
        addresses, allowed = checked(found, self._settings.allowed_networks)
        if not allowed:
            if url.scheme == "http" and not self._settings.plain_http:
                raise AddressRefused("only https:// addresses are fetched here")
            if port != _PORTS[url.scheme]:
                raise AddressRefused(f"only port {_PORTS[url.scheme]} is fetched for {url.scheme}://")
        return addresses

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        with self._lock:
            return self._given or ssl.create_default_context()


def parse_url(text: str) -> httpx2.URL:
    """The address, in the one reading that everything here uses.

    Raises: AddressRefused when it is none, or carries credentials.
    """
    if len(text) > MAX_URL_CHARACTERS or any(ord(c) <= 0x20 or ord(c) == 0x7F or c == "\\" for c in text):
        raise AddressRefused("this is no address: it is too long, or has blanks, control characters or backslashes")
    try:
        url = httpx2.URL(text).copy_with(fragment=None)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise AddressRefused("this is no address") from error
    if url.scheme not in _PORTS or not url.raw_host or not 1 <= (url.port or 443) <= 65_535:
        raise AddressRefused("only https:// addresses are fetched")
    if "@" in re.split(r"[/?#]", text.partition("//")[2], maxsplit=1)[0]:
        raise AddressRefused("an address with a user name or password is not fetched")
    return url


def _next(current: httpx2.URL, hop: _Hop) -> httpx2.URL:
    location = hop.headers.get("location", "")
    if not location:
        raise AddressRefused("this address redirects to nowhere")
    try:
        following = str(current.join(location))
    except (httpx2.InvalidURL, ValueError) as error:
        raise AddressRefused("this address redirects to something that is no address") from error
    return parse_url(following)


def _read(response: httpcore2.Response, most: int, cut: bool) -> _Hop:
    """The answer, with its content only where it counts."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    if response.status != 200:
        return _Hop(response.status, headers, b"")
    if headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise AddressRefused("the server compresses its answer though it was not asked to")
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > most and not cut:
        raise PayloadTooLarge(_larger(most))
    data = bytearray()
    for piece in response.iter_stream():
        data += piece
        if len(data) > most:
            if cut:
                break
            raise PayloadTooLarge(_larger(most))
    return _Hop(200, headers, bytes(data[:most]))


def _larger(most: int) -> str:
    return f"what is at this address is larger than {most:,} bytes"


def _fetched(url: httpx2.URL, hop: _Hop) -> Fetched:
    if hop.status in _BUSY or hop.status >= 500:
        raise FetchFailed(f"the server answered {hop.status}")
    if hop.status not in (200, 304):
        raise AddressRefused(f"the server answered {hop.status}", status=hop.status)
    media_type = hop.headers.get("content-type", "")[:200] or None
    etag, modified = (hop.headers.get(name, "")[:200] or None for name in ("etag", "last-modified"))
    return Fetched(str(url), hop.status, media_type, etag, modified, hop.data)
