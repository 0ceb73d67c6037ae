"""Hostile addresses, resolvers and servers against the one door for outgoing HTTP. Nothing may reach the trap on loopback."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agenthub.core.errors import AddressRefused, FetchFailed, PayloadTooLarge
from agenthub.fetching.configuration import FetchSettings
from agenthub.fetching.fetch import Conditions, Fetcher
from tests.servers.web_site import Asked, Page, Site, text_page, web_site

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
OPEN = FetchSettings(allowed_networks=LOOPBACK, total_seconds=5, silent_seconds=1, connect_seconds=1, max_bytes=1_000_000)
GUARDED = FetchSettings(plain_http=True, total_seconds=2, silent_seconds=1, connect_seconds=0.3)


@pytest.fixture
def site() -> Iterator[Site]:
    with web_site({"/": text_page("<p>Hello</p>", etag='"v1"', last_modified="Wed, 21 Oct 2026 07:28:00 GMT")}) as running:
        yield running


FORMS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0", "localhost", "localhost.",
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%25lo]",
    "①②⑦.⓪.⓪.①", "127.0.0.1.", "169.254.169.254", "metadata.google.internal", "10.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("host", FORMS)
def test_no_form_of_an_inward_address_reaches_it(site: Site, host: str) -> None:
    with pytest.raises((AddressRefused, FetchFailed)):
        Fetcher(GUARDED).fetch(f"http://{host}:{site.port}/")
    assert site.hits == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user@example.com/", "https://user:password@example.com/", "https://@example.com/", "ftp://example.com/", "file:///etc/passwd",
        "gopher://example.com/", "https:///path", "https://", "example.com", "", "https://exa mple.com/", "https://example.com\\@127.0.0.1/",
        "https://example.com/\r\nHost: x", "https://example.com/\x00", "https://" + "a" * 2000 + ".com/", "unix:///tmp/socket", "https://[::1",
        "https://example.com:99999/", "data:text/plain,x", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused_before_anything_is_asked(url: str) -> None:
    asked: list[str] = []

    def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["8.8.8.8"]

    with pytest.raises(AddressRefused):
        Fetcher(GUARDED, resolver).fetch(url)
    assert asked == []


@pytest.mark.parametrize("url", ["http://example.com/", "https://example.com:8443/", "http://example.com:443/", "https://example.com:22/"])
def test_public_hosts_are_asked_by_https_on_its_port_only(url: str) -> None:
    with pytest.raises(AddressRefused):
        Fetcher(FetchSettings(), lambda host, port: ["8.8.8.8"]).fetch(url)


def test_an_allowed_network_is_fetched(site: Site) -> None:
    found = Fetcher(OPEN).fetch(site.url("/"))
    assert (found.status, found.data, found.etag, found.media_type) == (200, b"<p>Hello</p>", '"v1"', "text/html; charset=utf-8")
    sent = site.hits[0].headers
    assert sent["user-agent"] == "AgentHub"
    assert not {"authorization", "cookie", "referer"} & set(sent)


def test_a_resolver_that_changes_its_mind_is_asked_once(site: Site) -> None:
    """Rebinding: the first answer may be fetched, every later one may not. The connection goes to what was checked."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    only = replace(OPEN, allowed_networks=(ipaddress.ip_network("127.0.0.1/32"),))
    fetcher = Fetcher(only, lambda host, port: next(answers))
    assert fetcher.fetch(site.url("/", "rebinding.test")).data == b"<p>Hello</p>"
    with pytest.raises(AddressRefused):
        fetcher.fetch(site.url("/", "rebinding.test"))
    assert len(site.hits) == 1


def test_a_name_with_a_public_and_an_inward_address_is_refused(site: Site) -> None:
    with pytest.raises(AddressRefused):
        Fetcher(GUARDED, lambda host, port: ["8.8.8.8", "127.0.0.1"]).fetch(f"http://both.test:{site.port}/")
    assert site.hits == []


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "http://[::1]:{port}/",
        "//127.0.0.2:{port}/",
        "http://2130706434:{port}/",
        "file:///etc/passwd",
        "http://x@y/",
    ],
)
def test_every_redirect_is_checked_like_the_first_address(site: Site, location: str) -> None:
    """The site itself may be fetched; where it sends us may not."""
    with web_site({"/away": lambda asked: asked.redirect(location.format(port=site.port))}) as first:
        only = FetchSettings(plain_http=True, allowed_networks=(ipaddress.ip_network("127.0.0.1/32"),), connect_seconds=0.3)
        with pytest.raises(AddressRefused):
            Fetcher(only).fetch(first.url("/away"))
        assert first.paths == ["/away"]
    assert site.hits == []


def _leading_to(location: str) -> Page:
    return lambda asked: asked.redirect(location)


def test_redirects_are_followed_five_times_and_no_more(site: Site) -> None:
    site.pages["/loop"] = lambda asked: asked.redirect("/loop?again")
    for number in range(5):
        site.pages[f"/{number}"] = _leading_to(f"/{number + 1}" if number < 4 else "/")
    assert Fetcher(OPEN).fetch(site.url("/0")).url == site.url("/")
    with pytest.raises(AddressRefused, match="more than 5 times"):
        Fetcher(OPEN).fetch(site.url("/loop"))


def test_a_body_without_end_is_cut_off(site: Site) -> None:
    """A server that says 10 GB is not read at all; one that says nothing is read up to the bound."""

    def endless(asked: Asked) -> None:
        asked.handler.send_response(200)
        asked.handler.end_headers()
        for _ in range(10_000):
            asked.handler.wfile.write(b"x" * 1_000_000)

    site.pages["/declared"] = lambda asked: asked.answer(b"x", content_length=str(10 * 2**30))
    site.pages["/endless"] = endless
    for path in ("/declared", "/endless"):
        with pytest.raises(PayloadTooLarge):
            Fetcher(OPEN).fetch(site.url(path))
    assert len(Fetcher(OPEN).fetch(site.url("/endless"), max_bytes=1000, cut=True).data) == 1000


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_server_that_drips_ends_with_the_total_time(site: Site, part: str) -> None:
    def slow(asked: Asked) -> None:
        if part == "body":
            asked.handler.send_response(200)
            asked.handler.end_headers()
        else:
            asked.handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(100):
            asked.handler.wfile.write(b"x")
            time.sleep(0.1)

    site.pages["/slow"] = slow
    settings = FetchSettings(allowed_networks=LOOPBACK, total_seconds=0.6, silent_seconds=0.5)
    started = time.monotonic()
    with pytest.raises(FetchFailed):
        Fetcher(settings).fetch(site.url("/slow"))
    assert time.monotonic() - started < 8


def test_a_resolver_that_hangs_ends_with_its_time() -> None:
    started = time.monotonic()

    def resolver(host: str, port: int) -> Sequence[str]:
        time.sleep(10)
        return ["8.8.8.8"]

    with pytest.raises(FetchFailed):
        Fetcher(GUARDED, resolver).fetch("http://slow.test/")
    assert time.monotonic() - started < 8


def test_unwanted_compression_headers_without_end_and_nonsense_are_refused(site: Site) -> None:
    def long_headers(asked: Asked) -> None:
        asked.handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 3_000_000 + b"\r\n\r\n")

    def nonsense(asked: Asked) -> None:
        asked.handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    site.pages["/gzip"] = lambda asked: asked.answer(b"\x1f\x8b", content_encoding="gzip")
    site.pages["/headers"] = long_headers
    site.pages["/nonsense"] = nonsense
    for path in ("/gzip", "/headers", "/nonsense"):
        with pytest.raises((AddressRefused, FetchFailed, PayloadTooLarge)):
            Fetcher(OPEN).fetch(site.url(path))


@pytest.mark.parametrize(("status", "error"), [(404, AddressRefused), (403, AddressRefused), (500, FetchFailed), (429, FetchFailed)])
def test_refusals_for_good_and_for_now_are_told_apart(site: Site, status: int, error: type[Exception]) -> None:
    site.pages["/status"] = lambda asked: asked.answer(b"no", status)
    with pytest.raises(error, match=str(status)):
        Fetcher(OPEN).fetch(site.url("/status"))


def test_what_the_caller_has_already_is_not_sent_again(site: Site) -> None:
    def page(asked: Asked) -> None:
        same = asked.headers.get("if-none-match") == '"v1"'
        asked.answer(b"" if same else b"text", 304 if same else 200, etag='"v1"')

    site.pages["/"] = page
    first = Fetcher(OPEN).fetch(site.url("/"))
    again = Fetcher(OPEN).fetch(site.url("/"), Conditions(first.etag, first.last_modified))
    assert (first.status, again.status, again.data) == (200, 304, b"")


def test_tls_names_and_checks_the_host_though_the_connection_goes_to_its_address(tmp_path: Path) -> None:
    with web_site({"/": text_page("secret")}, certificate_of="docs.example.com", folder=tmp_path) as site:
        fetcher = Fetcher(OPEN, lambda host, port: ["127.0.0.1"], site.trusted)
        assert fetcher.fetch(site.url("/", "docs.example.com")).data == b"secret"
        assert site.server_names == ["docs.example.com"]
        assert site.hits[0].headers["host"] == f"docs.example.com:{site.port}"
        with pytest.raises(FetchFailed):
            fetcher.fetch(site.url("/", "other.example.com"))
        with pytest.raises(FetchFailed):
            Fetcher(OPEN, lambda host, port: ["127.0.0.1"]).fetch(site.url("/", "docs.example.com"))
        assert site.paths == ["/"]
