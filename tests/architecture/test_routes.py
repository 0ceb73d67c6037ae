"""Every route says whom it admits and what it answers; the public ones are listed here, each with its reason."""

from __future__ import annotations

import pytest
from flask import Flask
from werkzeug.routing import Rule

from agenthub.factory import create_app
from agenthub.settings import Settings
from agenthub.web.declare import Declaration, declaration_of

# Adding a line here lets the whole internet call a route.
PUBLIC = {
    ("POST", "/api/auth/login"),
    ("GET", "/api/health/live"),
    ("GET", "/api/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/api/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/static/<name>"),
    ("GET", "/"),
}
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings.from_env({"DATABASE_URL": "memory://"}))


@pytest.fixture(scope="module")
def routes(app: Flask) -> list[tuple[str, Rule, Declaration]]:
    return [
        (method, rule, declaration_of(app.view_functions[rule.endpoint]))
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def test_public_routes_are_listed(routes: list[tuple[str, Rule, Declaration]]) -> None:
    public = {(method, rule.rule) for method, rule, said in routes if said.access is None or said.access.kind == "public"}
    assert public == PUBLIC


def test_every_route_says_what_it_answers(routes: list[tuple[str, Rule, Declaration]]) -> None:
    assert [f"{method} {rule.rule}" for method, rule, said in routes if not said.answers and not said.hidden] == []


def test_every_route_of_the_api_is_in_the_openapi_document(app: Flask, routes: list[tuple[str, Rule, Declaration]]) -> None:
    document = app.test_client().get("/api/openapi.json").get_json()
    documented = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method.upper() in WRITES | {"GET"}
    }
    served = {(method, str(rule.rule).replace("<", "{").replace(">", "}")) for method, rule, said in routes if not said.hidden}
    assert documented == {(method, "/".join(_name(part) for part in path.split("/"))) for method, path in served}


def _name(part: str) -> str:
    return "{" + part[1:-1].rpartition(":")[2] + "}" if part.startswith("{") else part


def test_permissions_are_named_after_a_resource_and_an_action(routes: list[tuple[str, Rule, Declaration]]) -> None:
    permissions = {said.access.permission for _, _, said in routes if said.access and said.access.kind == "permission"}
    assert permissions
    assert {name for name in permissions if name.count(":") != 1 or not all(name.split(":"))} == set()


def test_writes_read_a_declared_body_or_none(routes: list[tuple[str, Rule, Declaration]]) -> None:
    """A route that takes a body it does not declare would escape validation and the OpenAPI document."""
    takes_body = {rule.rule for method, rule, said in routes if method in {"PUT", "PATCH"} and said.body is None}
    assert takes_body == set()
