"""What happens around every request: its id, its size, its log line and the headers of its answer."""

from __future__ import annotations

import re
import time
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
# No view sets these, so they are added without looking for them.
_FIXED_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)
_HSTS: Final = "max-age=31536000; includeSubDomains"


class AgentHubRequest(Request):
    """A request whose uploads stay in memory: bodies are capped, and the disk may be read-only."""

    max_form_memory_size = 1024 * 1024
    max_form_parts = 1000

    def _get_file_stream(self, *_sizes_and_names: Any, **_more: Any) -> IO[bytes]:
        return BytesIO()


def install_requests(app: Flask, settings: WebSettings, metrics: Metrics) -> None:
    """Give every request an id, a log line and a place in the metrics, and every answer its headers."""
    app.request_class = AgentHubRequest

    def begin() -> None:
        offered = request.headers.get("X-Request-ID", "")
        g.agenthub = RequestState(offered if _REQUEST_ID.match(offered) else new_id(), time.monotonic())
        metrics.request_began()
        begin_line(state().request_id)

    def finish(response: Response) -> Response:
        seconds = time.monotonic() - state().started_seconds
        metrics.request_ended(request.url_rule.rule if request.url_rule else None, request.method, response.status_code, seconds)
        log_access(state(), response.status_code, seconds)
        return _with_headers(response)

    def leave(_error: BaseException | None) -> None:
        if g.pop("agenthub", None) is not None:
            metrics.request_left()
        end_line()

    app.before_request(begin)
    app.after_request(finish)
    app.teardown_request(leave)
    hops = settings.trusted_proxy_hops
    if hops:
        setattr(app, "wsgi_app", ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=0))  # noqa: B010 (mypy: a method)


def _with_headers(response: Response) -> Response:
    headers = response.headers
    headers.extend(_FIXED_HEADERS)
    headers.add("X-Request-ID", state().request_id)
    if (standing := state().standing) is not None:
        headers.extend(headers_of(standing))
    if "Content-Security-Policy" not in headers:
        headers.add("Content-Security-Policy", _JSON_POLICY)
    if "Cache-Control" not in headers:
        headers.add("Cache-Control", "private, no-store")
    if request.is_secure:
        headers["Strict-Transport-Security"] = _HSTS
    return response
