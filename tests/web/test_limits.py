"""Rate limits over HTTP."""

from __future__ import annotations

from pathlib import Path

from tests.api import Api, make_app


def limited(folder: Path, **limits: str) -> Api:
    return Api(make_app(folder, AGENTHUB_SERVICES="platform.authentication", **limits)).login()


def test_over_the_limit_is_429_with_when_to_come_back(tmp_path: Path) -> None:
    api = limited(tmp_path, AGENTHUB_RATE_LIMIT_USER="3")
    answers = [api.send("GET", "/api/auth/me") for _ in range(20)]
    assert answers[0].status_code == 200
    assert answers[0].headers["RateLimit-Limit"] == "3"
    assert answers[0].headers["RateLimit-Policy"] == "3;w=60"
    assert 0 < int(answers[0].headers["RateLimit-Reset"]) <= 60
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.get_json()["error"]["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit-Remaining"] == "0"


def test_an_address_is_limited_before_anybody_asks_who_it_is(tmp_path: Path) -> None:
    app = make_app(tmp_path, AGENTHUB_SERVICES="platform.authentication", AGENTHUB_RATE_LIMIT_ADDRESS="5")
    statuses = [Api(app).send("GET", "/api/auth/me").status_code for _ in range(20)]
    assert statuses[0] == 401
    assert 429 in statuses


def test_probes_and_pages_are_not_limited(tmp_path: Path) -> None:
    api = limited(tmp_path, AGENTHUB_RATE_LIMIT_ADDRESS="1")
    for path in ("/api/health/live", "/api/health/ready", "/"):
        for _ in range(5):
            answer = api.send("GET", path)
            assert answer.status_code == 200
            assert "RateLimit-Limit" not in answer.headers


def test_limits_can_be_switched_off(tmp_path: Path) -> None:
    api = limited(tmp_path, AGENTHUB_RATE_LIMIT_USER="1", AGENTHUB_RATE_LIMITS="off")
    answers = [api.send("GET", "/api/auth/me") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert "RateLimit-Limit" not in answers[0].headers
