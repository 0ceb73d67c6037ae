from __future__ import annotations

import gzip
import ipaddress
from collections.abc import Iterator

import pytest

from agenthub.core.errors import AddressRefused, FetchFailed, PayloadTooLarge, UnsupportedDocument
from agenthub.fetching.configuration import FetchSettings
from agenthub.fetching.fetch import Fetcher
from agenthub.fetching.robots import Robots
from agenthub.fetching.visiting import Visitor
from tests.servers.web_site import Site, text_page, web_site

OPEN = FetchSettings(allowed_networks=(ipaddress.ip_network("127.0.0.1/32"),), total_seconds=5, silent_seconds=1)
SITEMAP = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</urlset>'
INDEX = '<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</sitemapindex>'


@pytest.fixture
def site() -> Iterator[Site]:
    with web_site({f"/{name}": text_page(name) for name in ("open", "closed", "other")}) as running:
        yield running


def visitor(pauses: list[float] | None = None) -> Visitor:
    fetcher = Fetcher(OPEN)
    return Visitor(fetcher, Robots(fetcher), (pauses if pauses is not None else []).append)


def test_robots_txt_is_read_once_and_obeyed(site: Site) -> None:
    site.pages["/robots.txt"] = text_page("User-agent: AgentHub\nDisallow: /closed\n\nUser-agent: *\nDisallow: /\n", "text/plain")
    reader = visitor()
    assert reader.read(site.url("/open")).data == b"open"
    assert reader.read(site.url("/other")).data == b"other"
    with pytest.raises(AddressRefused, match=r"robots\.txt"):
        reader.read(site.url("/closed"))
    assert site.paths == ["/robots.txt", "/open", "/other"]


def test_a_redirect_does_not_lead_around_robots_txt(site: Site) -> None:
    site.pages["/robots.txt"] = text_page("User-agent: *\nDisallow: /closed\n", "text/plain")
    site.pages["/around"] = lambda asked: asked.redirect("/closed")
    with pytest.raises(AddressRefused, match=r"robots\.txt"):
        visitor().read(site.url("/around"))
    assert "/closed" not in site.paths


def test_a_site_without_robots_txt_is_open_and_one_whose_rules_fail_is_closed(site: Site) -> None:
    assert visitor().read(site.url("/open")).data == b"open"
    site.pages["/robots.txt"] = lambda asked: asked.answer(b"", 503)
    with pytest.raises(FetchFailed):
        visitor().read(site.url("/open"))


def test_huge_rules_are_read_as_far_as_the_standard_asks(site: Site) -> None:
    site.pages["/robots.txt"] = text_page("User-agent: *\nDisallow: /closed\n" + "# more\n" * 200_000, "text/plain")
    with pytest.raises(AddressRefused):
        visitor().read(site.url("/closed"))
    assert visitor().read(site.url("/open")).data == b"open"


def test_the_pause_a_site_asks_for_is_kept_but_no_longer_than_5_seconds(site: Site) -> None:
    site.pages["/robots.txt"] = text_page("User-agent: *\nCrawl-delay: 600\n", "text/plain")
    pauses: list[float] = []
    reader = visitor(pauses)
    reader.read(site.url("/open"))
    reader.read(site.url("/other"))
    assert len(pauses) == 1 and 4 < pauses[0] <= 5


def test_a_sitemap_index_is_read_with_its_parts_of_all_kinds(site: Site) -> None:
    def entries(kind: str, *paths: str) -> str:
        return "".join(f"<{kind}><loc> {site.url(path)} </loc></{kind}>" for path in paths)

    site.pages["/index.xml"] = text_page(INDEX.format(entries("sitemap", "/a.xml", "/b.xml.gz", "/c.txt", "/a.xml")))
    elsewhere = "<url><loc>http://127.0.0.9/elsewhere</loc></url><url><loc>file:///etc/passwd</loc></url>"
    site.pages["/a.xml"] = text_page(SITEMAP.format(entries("url", "/open", "/other") + elsewhere))
    site.pages["/b.xml.gz"] = text_page(gzip.compress(SITEMAP.format(entries("url", "/zipped", "/open")).encode()))
    site.pages["/c.txt"] = text_page(f"{site.url('/line')}\nnot an address\n", "text/plain")
    assert visitor().sitemap(site.url("/index.xml"), 100) == [site.url(f"/{name}") for name in ("open", "other", "zipped", "line")]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]><urlset><url><loc>&a;</loc></url></urlset>', UnsupportedDocument),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><urlset/>', UnsupportedDocument),
        ("<urlset><url>", UnsupportedDocument),
        (gzip.compress(b"x" * 40_000_000), PayloadTooLarge),
        (b"\x1f\x8bnonsense", UnsupportedDocument),
    ],
)
def test_hostile_sitemaps_are_refused(site: Site, content: str | bytes, error: type[Exception]) -> None:
    site.pages["/sitemap.xml"] = text_page(content, "application/xml")
    with pytest.raises(error):
        visitor().sitemap(site.url("/sitemap.xml"), 100)


def test_a_sitemap_of_more_addresses_than_wanted_is_refused(site: Site) -> None:
    many = "".join(f"<url><loc>{site.url(f'/{number}')}</loc></url>" for number in range(11))
    site.pages["/sitemap.xml"] = text_page(SITEMAP.format(many))
    with pytest.raises(PayloadTooLarge):
        visitor().sitemap(site.url("/sitemap.xml"), 10)
    assert len(visitor().sitemap(site.url("/sitemap.xml"), 11)) == 11
