"""The pages for people, `/` and `/docs`, their files, and the OpenAPI document. No page asks another host for anything."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, Response, current_app, render_template, request

from agenthub import __version__
from agenthub.core.errors import NotFound
from agenthub.core.json import dumps
from agenthub.web.declare import public, returns, serves, undocumented
from agenthub.web.openapi import document
from agenthub.web.probes import READINESS
from agenthub.web.readiness import Readiness
from agenthub.web.running import RUNNING, Running
from agenthub.web.schema import Schema

pages = Blueprint("pages", __name__)

_OWN: Final = Path(__file__).parent / "static"
_OWN_FILES: Final = frozenset({"pages.css", "docs.js", "docs.css", "icon.svg"})
_SWAGGER: Final = {"swagger-ui.css": "css/swagger-ui.css", "swagger-ui-bundle.js": "js/swagger-ui-bundle.js"}
_PAGE_POLICY: Final = "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# Swagger UI sets style attributes and shows its icons as data: images; scripts and connections stay our own.
_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_OPENAPI: Final = "agenthub_openapi"


class RunningServiceOut(Schema):
    """A service of this process."""

    name: str
    title: str
    prefixes: tuple[str, ...]


class IndexOut(Schema):
    """What is running and where to go."""

    name: str
    version: str
    status: str
    services: tuple[RunningServiceOut, ...]
    links: dict[str, str]


@pages.get("/")
@public("a greeting: what runs here and where to go")
@returns(IndexOut)
@undocumented()
def index() -> Response | Mapping[str, Any]:
    """Greets a browser with a page, a program with the same as JSON."""
    running: Running = current_app.extensions[RUNNING]
    readiness: Readiness = current_app.extensions[READINESS]
    findings = readiness.findings()
    status = "ok" if readiness.ready(findings) else "failing"
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
        links = {"openapi": "/api/openapi.json", "docs": "/docs", "live": "/api/health/live", "ready": "/api/health/ready"}
        return {"name": "AgentHub", "version": __version__, "status": status, "services": running.services, "links": links}
    page = render_template(
        "index.html",
        version=__version__,
        status=status,
        findings=findings,
        domains=_by_domain(running),
        signs_in=any(service.name == "platform.authentication" for service in running.services),
        default_owner=running.default_owner,
        origin=request.host_url.rstrip("/"),
    )
    return _page(page, _PAGE_POLICY)


def _by_domain(running: Running) -> dict[str, list[Any]]:
    domains: dict[str, list[Any]] = {}
    for service in running.services:
        domains.setdefault(service.name.partition(".")[0], []).append(service)
    return domains


@pages.get("/docs")
@public("the documentation of the API holds no data")
@serves("text/html", "the documentation page")
@undocumented()
def docs() -> Response:
    """The API's documentation, made from /api/openapi.json in the browser."""
    return _page(render_template("docs.html"), _DOCS_POLICY)


@pages.get("/api/openapi.json")
@public("the description of the API holds no data")
@serves("application/json", "the OpenAPI 3.1 document")
def openapi() -> Response:
    """The OpenAPI 3.1 document of the services that this process serves."""
    if _OPENAPI not in current_app.extensions:
        running: Running = current_app.extensions[RUNNING]
        current_app.extensions[_OPENAPI] = dumps(document(current_app, running.services))
    response = Response(current_app.extensions[_OPENAPI], mimetype="application/json")
    response.headers["Cache-Control"] = "no-cache"
    return response


@pages.get("/static/<name>")
@public("style and scripts of the public pages")
@serves("application/octet-stream", "a file of the pages")
@undocumented()
def static_file(name: str) -> Response:
    """A file of the pages: ours by name, Swagger UI's from its installed package."""
    path = _OWN / name if name in _OWN_FILES else _swagger_file(name)
    if path is None or not path.is_file():
        raise NotFound("no such file")
    response = Response(path.read_bytes(), mimetype=mimetypes.guess_type(name)[0] or "application/octet-stream")
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


def _swagger_file(name: str) -> Path | None:
    """Where the package of Swagger UI's files is; it is never imported."""
    spec = find_spec("flask_openapi_swagger")
    if spec is None or spec.origin is None or name not in _SWAGGER:
        return None
    return Path(spec.origin).parent / "templates" / "swagger" / _SWAGGER[name]


def _page(text: str, policy: str) -> Response:
    response = Response(text, mimetype="text/html")
    response.headers["Content-Security-Policy"] = policy
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Vary"] = "Accept"
    return response
