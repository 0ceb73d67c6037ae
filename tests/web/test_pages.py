"""The pages for people: no other host, no inline script, no secret."""

from __future__ import annotations

import re
from typing import Any

import pytest


def test_a_browser_is_greeted_with_where_to_go(world: Any) -> None:
    answer = world.client().get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    page = answer.text
    assert answer.mimetype == "text/html"
    for target in ("/docs", "/api/openapi.json", "/api/health/ready", "/api/auth/login"):
        assert target in page
    assert "password&#34;" not in page and "owner@agenthub.com" not in page


def test_a_program_gets_json(world: Any) -> None:
    answer = world.client().get("/", headers={"Accept": "*/*"})
    assert answer.json["status"] == "ok"
    assert {service["name"] for service in answer.json["services"]} >= {"platform.authentication", "platform.notes"}


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_name_no_other_host_and_hold_no_inline_script_or_style(world: Any, path: str) -> None:
    answer = world.client().get(path, headers={"Accept": "text/html"})
    assert not re.findall(r"(?:src|href)=[\"'](?!/)", answer.text)
    assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son[a-z]+=", answer.text)
    assert "script-src 'unsafe" not in answer.headers["Content-Security-Policy"]


def test_every_file_that_a_page_names_is_there(world: Any) -> None:
    for path in ("/", "/docs"):
        page = world.client().get(path, headers={"Accept": "text/html"}).text
        for name in re.findall(r"[\"'](/static/[^\"']+)[\"']", page):
            answer = world.client().get(name)
            assert answer.status_code == 200 and len(answer.data) > 100


@pytest.mark.parametrize("name", ["..%2fpages.py", "pages.py", "%2e%2e", "swagger-ui.css.map", "pages.css%00"])
def test_no_other_file_is_served(world: Any, name: str) -> None:
    assert world.client().get(f"/static/{name}").status_code == 404
