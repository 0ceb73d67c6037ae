"""Archives of files and pages of sites, over HTTP: every part becomes a document or says why not."""

from __future__ import annotations

import io
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.ids import new_id
from tests.api import Api, make_app
from tests.servers.web_site import Asked, Site, text_page, web_site

ALLOWED = "127.0.0.1/32"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder: Path = tmp_path_factory.mktemp("collections")
    environment = {"AGENTHUB_SERVICES": "knowledge.*,platform.authentication", "AGENTHUB_FETCH_ALLOWED_NETWORKS": ALLOWED}
    return Api(make_app(folder, f"sqlite:///{folder}/agenthub.sqlite3", **environment)).login()


@pytest.fixture
def base(api: Api) -> str:
    return f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': f'collections {new_id()}'}, 201)['id']}"


@pytest.fixture
def site() -> Iterator[Site]:
    with web_site({"/otters": text_page("<html lang=en><title>Otters</title><p>Otters hold hands.</p>", etag='"1"')}) as running:
        yield running


# --- archives ---


def zipped(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def upload(api: Api, base: str, data: bytes, name: str, status: int = 207, **fields: str) -> Any:
    form = {"files": [(io.BytesIO(data), name)], **fields}
    return api.call("POST", f"{base}/documents", status, data=form, content_type="multipart/form-data")


def sources(api: Api, base: str) -> dict[str, dict[str, Any]]:
    return {one["source"]: one for one in api.get(f"{base}/documents?limit=200")["items"]}


def test_every_file_of_an_archive_becomes_a_document(api: Api, base: str) -> None:
    files = {
        "readme.md": "# Otters\n\nOtters hold hands.",
        "deep/er/notes.txt": "Otters eat fish.",
        "image.png": "\x89PNG",
        "inner.zip": "PK\x03\x04",
    }
    answer = upload(api, base, zipped(files), "library.zip", metadata='{"lang": "en"}')
    assert [(item["filename"], item["status"]) for item in answer["items"]] == [
        ("readme.md", 201), ("deep/er/notes.txt", 201), ("image.png", 422), ("inner.zip", 422)
    ]  # fmt: skip
    assert "archive inside" in answer["items"][3]["error"]["message"]
    found = sources(api, base)
    assert set(found) == {"library.zip/readme.md", "library.zip/deep/er/notes.txt"}
    assert all(one["metadata"] == {"lang": "en"} for one in found.values())


def test_an_archive_that_comes_again_replaces_what_changed(api: Api, base: str) -> None:
    upload(api, base, zipped({"a.txt": "text a", "b.txt": "text b"}), "x.zip")
    before = sources(api, base)
    answer = upload(api, base, zipped({"a.txt": "text a", "b.txt": "changed", "c.txt": "text c"}), "x.zip")
    assert [item["status"] for item in answer["items"]] == [200, 200, 201]
    after = sources(api, base)
    assert after["x.zip/a.txt"] == before["x.zip/a.txt"]
    assert (after["x.zip/b.txt"]["id"], after["x.zip/b.txt"]["revision"]) == (before["x.zip/b.txt"]["id"], 2)


def test_a_damaged_archive_and_one_in_company_are_refused(api: Api, base: str) -> None:
    damaged = zipped({"a.txt": "text " * 10_000})[:200]
    answer = upload(api, base, damaged, "x.zip")
    assert [(item["status"], item["error"]["code"]) for item in answer["items"]] == [(422, "unsupported_document")]
    two = {"files": [(io.BytesIO(zipped({"a.txt": "a"})), "x.zip"), (io.BytesIO(b"text"), "b.txt")]}
    api.refused("POST", f"{base}/documents", 422, "invalid_input", "files", data=two, content_type="multipart/form-data")
    title = {"files": [(io.BytesIO(zipped({"a.txt": "a"})), "x.zip")], "title": "t"}
    api.refused("POST", f"{base}/documents", 422, "invalid_input", "title", data=title, content_type="multipart/form-data")
    assert api.get(base)["document_count"] == 0


def test_a_tar_archive_of_many_files_goes_in_as_a_job(api: Api, base: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for number in range(250):
            data = f"This is note number {number}.".encode()
            entry = tarfile.TarInfo(f"notes/{number}.txt")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    form = {"files": [(io.BytesIO(out.getvalue()), "notes.tar.gz")]}
    accepted = api.call("POST", f"{base}/documents?wait=0", 202, data=form, content_type="multipart/form-data")
    job = finished(api, accepted["job"]["id"])
    assert (job["kind"], job["status"], job["progress"]["succeeded"]) == ("archive", "succeeded", 251)
    assert api.get(base)["document_count"] == 250


# --- sites ---


def finished(api: Api, job_id: str) -> dict[str, Any]:
    limit = time.monotonic() + 60
    while True:
        job: dict[str, Any] = api.get(f"/api/jobs/{job_id}")
        if job["finished_at"] is not None:
            return job
        assert time.monotonic() < limit, job
        time.sleep(0.05)


def fetch(api: Api, base: str, **body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The job in the end, and its items."""
    job = finished(api, api.post(f"{base}/documents/urls", body, 202)["job"]["id"])
    return job, api.get(f"/api/jobs/{job['id']}/items?limit=200")["items"]


def test_a_page_becomes_a_document_with_its_address_as_source(api: Api, base: str, site: Site) -> None:
    job, items = fetch(api, base, urls=[site.url("/otters")], metadata={"kind": "page"})
    assert (job["status"], items[0]["status"]) == ("succeeded", "done")
    document = sources(api, base)[site.url("/otters")]
    assert (document["title"], document["language"], document["metadata"]) == ("Otters", "en", {"kind": "page"})
    hit = api.post(f"{base}/search", {"query": "who holds hands"})["hits"][0]
    assert hit["metadata"]["source"] == site.url("/otters")
    assert site.paths == ["/robots.txt", "/otters"]


def test_a_page_that_did_not_change_is_not_sent_again_and_a_changed_one_replaces(api: Api, base: str, site: Site) -> None:
    def page(asked: Asked) -> None:
        same = asked.headers.get("if-none-match") == '"1"'
        asked.answer(b"" if same else b"<p>Otters hold hands.</p>", 304 if same else 200, etag='"1"', content_type="text/html")

    site.pages["/otters"] = page
    assert fetch(api, base, urls=[site.url("/otters")])[1][0]["status"] == "done"
    generation = api.get(base)["generation"]
    assert fetch(api, base, urls=[site.url("/otters")])[1][0]["status"] == "skipped"
    assert site.hits[-1].headers["if-none-match"] == '"1"'
    assert api.get(base)["generation"] == generation
    site.pages["/otters"] = text_page("<p>Otters eat fish.</p>", etag='"2"')
    assert fetch(api, base, urls=[site.url("/otters")])[1][0]["status"] == "done"
    assert [hit["text"] for hit in api.post(f"{base}/search", {"query": "otters"})["hits"]] == ["Otters eat fish."]


def test_a_sitemap_is_followed_where_robots_txt_lets_us(api: Api, base: str, site: Site) -> None:
    entries = "".join(f"<url><loc>{site.url(f'/page/{number}')}</loc></url>" for number in range(40))
    site.pages["/sitemap.xml"] = text_page(f"<urlset>{entries}</urlset>", "application/xml")
    site.pages["/robots.txt"] = text_page("User-agent: *\nDisallow: /page/7\n", "text/plain")
    for number in range(40):
        site.pages[f"/page/{number}"] = text_page(f"<p>This is page number {number} of the site.</p>")
    job, items = fetch(api, base, sitemap=site.url("/sitemap.xml"))
    assert (job["status"], job["progress"]["total"], job["progress"]["succeeded"]) == ("partly", 40, 39)
    failed = [item for item in items if item["status"] == "failed"]
    assert [(item["name"], item["error"]["code"]) for item in failed] == [(site.url("/page/7"), "address_refused")]
    assert api.get(base)["document_count"] == 39


def test_pages_that_fail_say_why_and_the_others_go_on(api: Api, base: str, site: Site) -> None:
    site.pages["/broken"] = lambda asked: asked.answer(b"", 500)
    site.pages["/inward"] = lambda asked: asked.redirect(f"http://127.0.0.2:{site.port}/otters")
    site.pages["/image"] = text_page(b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, "image/png")
    urls = [site.url(path) for path in ("/missing", "/broken", "/inward", "/image", "/otters")]
    job, items = fetch(api, base, urls=urls)
    assert job["status"] == "partly"
    assert [(item["status"], (item["error"] or {}).get("code")) for item in items] == [
        ("failed", "address_refused"), ("failed", "fetch_failed"), ("failed", "address_refused"),
        ("failed", "unsupported_document"), ("done", None),
    ]  # fmt: skip
    assert site.paths.count("/broken") == 3


def test_addresses_that_are_none_are_refused_at_once(api: Api, base: str) -> None:
    for body, code, field in (
        ({"urls": ["https://example.com/", "file:///etc/passwd"]}, "address_refused", "urls[1]"),
        ({"urls": ["https://user:secret@example.com/"]}, "address_refused", "urls[0]"),
        ({"sitemap": "ftp://example.com/sitemap.xml"}, "address_refused", "sitemap"),
        ({}, "invalid_input", "urls"),
        ({"urls": ["https://example.com/"], "sitemap": "https://example.com/s.xml"}, "invalid_input", "urls"),
    ):
        api.refused("POST", f"{base}/documents/urls", 422, code, field, json=body)


def test_a_sitemap_that_leads_inwards_ends_its_job_with_the_reason(api: Api, base: str) -> None:
    job, items = fetch(api, base, sitemap="http://10.1.2.3/sitemap.xml")
    assert (job["status"], job["error"]["code"], items) == ("failed", "address_refused", [])
