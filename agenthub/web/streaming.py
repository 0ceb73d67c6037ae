"""Server-sent events: an answer that arrives piece by piece, on one of the server's threads for as long as it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog
from flask import Response

from agenthub.core.errors import AgentHubError
from agenthub.core.json import dumps
from agenthub.web.access import request_id
from agenthub.web.errors import refusal_of
from agenthub.web.schema import Schema

MEDIA_TYPE: Final = "text/event-stream"
_KEEP_ALIVE: Final = b": still here\n\n"
_log = structlog.get_logger("agenthub.web")


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `data` becomes JSON."""

    name: str
    data: Any


def event_stream(events: Iterator[Event | None], close: Callable[[], None]) -> Response:
    """The events as they come; None keeps the connection alive. `close` is called when they end or the client leaves.

    What fails before the first event is raised; later failures are an event `error` of the contract's shape, the last one.
    """
    try:
        first = next(events, None)
    except BaseException:
        close()
        raise
    response = Response(_told(first, events, request_id()), content_type=f"{MEDIA_TYPE}; charset=utf-8")
    response.headers["X-Accel-Buffering"] = "no"  # a proxy that collects an answer first would make a stream of one piece
    response.call_on_close(close)
    return response


def _told(first: Event | None, events: Iterator[Event | None], request: str) -> Iterator[bytes]:
    try:
        yield _encoded(first)
        for event in events:
            yield _encoded(event)
    except AgentHubError as error:
        refusal = refusal_of(error)
        _log.warning("stream broke off", code=refusal.code, reason=error.message, request_id=request)
        detail = {"code": refusal.code, "message": error.message, "request_id": request}
        yield _encoded(Event("error", {"error": detail}))


def _encoded(event: Event | None) -> bytes:
    if event is None:
        return _KEEP_ALIVE
    data = event.data.model_dump_json().encode() if isinstance(event.data, Schema) else dumps(event.data)
    return b"event: " + event.name.encode() + b"\ndata: " + data + b"\n\n"
