"""What happens around every request: its id, its size, its log line and the headers of its answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import IO, Any, Final

from flask import Flask, Request, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from agenthub.core.ids import new_id
from agenthub.settings import WebSettings
from agenthub.web.access import RequestState, state
from agenthub.web.limits import headers_of
from agenthub.web.logs import begin_line, end_line, log_access
from agenthub.web.metrics import Metrics

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}\Z")
_JSON_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# No view sets these, so they are added without looking for them, to the list that goes to the server: werkzeug's checks cost more than
# the rest of an answer's headers, and nothing here comes from a client unchecked.
_FIXED_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)
_HSTS: Final = "max-age=31536000; includeSubDomains"
_HEADERS: Final = "agenthub.headers"


class AgentHubRequest(Request):
    """A request whose uploads stay in memory: bodies are capped, and the disk may be read-only.

    Its environment doesn't point back at it: bodies of megabytes would stay until the garbage collector comes by.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        super().__init__(environ, populate_request=False)

    max_form_memory_size = 1024 * 1024
    max_form_parts = 1000

    def _get_file_stream(self, *_sizes_and_names: Any, **_more: Any) -> IO[bytes]:
        return BytesIO()


def install_requests(app: Flask, settings: WebSettings, metrics: Metrics) -> None:
    """Give every request an id, a log line and a place in the metrics, and every answer its headers."""
    app.request_class = AgentHubRequest

    def begin() -> None:
        offered = request.headers.get("X-Request-ID", "")
        g.agenthub = opened = RequestState(offered if _REQUEST_ID.match(offered) else new_id(), time.monotonic())
        metrics.request_began()
        begin_line(opened.request_id)

    def finish(response: Response) -> Response:
        known, current = state(), request._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 (documented; each use of the proxy costs)
        seconds = time.monotonic() - known.started_seconds
        rule = current.url_rule
        metrics.request_ended(rule.rule if rule else None, current.method, response.status_code, seconds)
        log_access(current, known, response.status_code, seconds)
        current.environ[_HEADERS] = _headers_of(current, known, response)
        return response

    def leave(_error: BaseException | None) -> None:
        if g.pop("agenthub", None) is not None:
            metrics.request_left()
        end_line()

    app.before_request(begin)
    app.after_request(finish)
    app.teardown_request(leave)
    setattr(app, "wsgi_app", _with_headers(app.wsgi_app))  # noqa: B010 (mypy: a method)
    hops = settings.trusted_proxy_hops
    if hops:
        setattr(app, "wsgi_app", ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=0))  # noqa: B010 (mypy: a method)


def _with_headers(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The application, adding the headers that each request's end left in its environment."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
            return start_response(status, headers + environ.get(_HEADERS, []), *failure)

        return application(environ, start)

    return serve


def _headers_of(current: Request, known: RequestState, response: Response) -> list[tuple[str, str]]:
    headers = [*_FIXED_HEADERS, ("X-Request-ID", known.request_id)]
    if known.standing is not None:
        headers += headers_of(known.standing).items()
    given = response.headers
    if "Content-Security-Policy" not in given:
        headers.append(("Content-Security-Policy", _JSON_POLICY))
    if "Cache-Control" not in given:
        headers.append(("Cache-Control", "private, no-store"))
    if current.is_secure:
        headers.append(("Strict-Transport-Security", _HSTS))
    return headers
