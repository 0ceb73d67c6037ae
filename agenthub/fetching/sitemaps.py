"""The addresses that a sitemap lists (sitemaps.org): XML, an index of sitemaps, plain lines, each also gzipped."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from typing import Final
from xml.parsers.expat import ExpatError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from agenthub.core.errors import AddressRefused, PayloadTooLarge, UnsupportedDocument
from agenthub.fetching.fetch import Fetched, parse_url

MAX_SITEMAPS: Final = 50
"""How many sitemaps of one index are read."""
MAX_SITEMAP_BYTES: Final = 32 * 1024 * 1024
_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31

Read = Callable[[str], Fetched]
"""Fetches an address, politely."""


def listed(read: Read, sitemap: str, most: int) -> list[str]:
    """The addresses a sitemap lists, in its order, each once; only those of its own host, as the protocol demands.

    Raises: as `read`; UnsupportedDocument when it is no sitemap; PayloadTooLarge when it lists more than `most` addresses, or
    an index more than 50 sitemaps.
    """
    found: dict[str, None] = {}
    waiting, seen = [sitemap], {sitemap}
    while waiting:
        fetched = read(waiting.pop(0))
        for kind, address in _entries(_unpacked(fetched.data)):
            if not _same_host(address, fetched.url):
                continue
            if kind == "sitemap" and address not in seen:
                seen.add(address)
                waiting.append(address)
            elif kind == "url":
                found[address] = None
            if len(found) > most or len(seen) > MAX_SITEMAPS:
                raise PayloadTooLarge(f"the sitemap lists more than {most:,} addresses or {MAX_SITEMAPS} sitemaps")
    return list(found)


def _same_host(address: str, other: str) -> bool:
    try:
        return parse_url(address).host == parse_url(other).host
    except AddressRefused:
        return False


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data
    unpacking = zlib.decompressobj(_GZIP_WINDOW)
    try:
        text = unpacking.decompress(data, MAX_SITEMAP_BYTES + 1)
    except zlib.error as error:
        raise UnsupportedDocument("the sitemap is damaged") from error
    if len(text) > MAX_SITEMAP_BYTES:
        raise PayloadTooLarge(f"the sitemap unpacks to more than {MAX_SITEMAP_BYTES:,} bytes")
    return text


def _entries(text: bytes) -> Iterator[tuple[str, str]]:
    """(`url` or `sitemap`, address) for every entry."""
    if not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        lines = text.decode("utf-8", errors="replace").splitlines()
        yield from (("url", line.strip()) for line in lines if line.strip().lower().startswith(("http://", "https://")))
        return
    kind = ""
    try:
        for event, element in iterparse(io.BytesIO(text), events=("start", "end"), forbid_dtd=True):
            name = element.tag.rpartition("}")[2]
            if event == "start" and name in ("url", "sitemap"):
                kind = name
            elif event == "end" and name == "loc" and kind:
                yield kind, (element.text or "").strip()
            elif event == "end" and name == kind:
                kind = ""
                element.clear()
    except (ParseError, ExpatError, DefusedXmlException, ValueError, LookupError) as error:
        raise UnsupportedDocument("the sitemap is not well-formed XML") from error
