"""Log lines: JSON for machines, text on a terminal, the request's id in each, secrets in none."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TextIO

import structlog
from flask import Request
from structlog.typing import EventDict, Processor

from agenthub.core.ids import is_id
from agenthub.core.json import dumps
from agenthub.settings import LogSettings
from agenthub.web.access import RequestState

_HIDDEN: Final = "[hidden]"
_SECRET_NAMES: Final = re.compile(r"password|passwd|secret|token|api_?key|authorization|cookie|credential", re.IGNORECASE)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_TOKENS: Final = re.compile(r"\b(ah|ahs|ahk|sk|pk)[-_][A-Za-z0-9_-]{16,}")
_USERINFO: Final = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]*(?=@)")
_PARAMETERS: Final = re.compile(r"(?i)\b([a-z_-]*(?:password|token|secret|key)[a-z_-]*)=[^\s&\"']+")
_QUIET_ROUTES: Final = frozenset({"/api/health/live", "/api/health/ready", "/metrics"})
_KNOWN_PATHS: Final = 512
_log = structlog.get_logger("agenthub.access")
_line_of: Final[ContextVar[str | None]] = ContextVar("agenthub_request_id", default=None)


def configure_logs(settings: LogSettings) -> None:
    """Send all log lines and warnings of this process, libraries' too, through one handler. For entries, not for tests."""
    stream = sys.stdout if settings.stream == "stdout" else sys.stderr
    shared = _shared_processors()
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(settings, stream)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    _access_lines.handler = None if _as_text(settings, stream) else handler
    logging.captureWarnings(True)
    _adopt("gunicorn.error", logging.INFO, handler)
    for name in ("werkzeug", "sqlalchemy", "alembic", "urllib3", "httpx", "httpcore", "openai", "pypdf", "faiss"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _as_text(settings: LogSettings, stream: TextIO) -> bool:
    return settings.format == "text" or (settings.format == "auto" and stream.isatty())


def _adopt(name: str, level: int, handler: logging.Handler) -> None:
    logger = logging.getLogger(name)
    if logger.handlers:
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level)


def _shared_processors() -> list[Processor]:
    return [
        _with_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _rendering(settings: LogSettings, stream: TextIO) -> list[Processor]:
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if _as_text(settings, stream):
        traceback = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=traceback)
        return [remove_meta, structlog.processors.format_exc_info, hide_secrets, console]
    return [remove_meta, structlog.processors.format_exc_info, hide_secrets, structlog.processors.JSONRenderer()]


def hide_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The log line with every value hidden whose name or form says that it is a secret."""
    return _cleaned_mapping(event)


def _cleaned_mapping(values: Mapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: _HIDDEN if _SECRET_NAMES.search(name) and value is not None else _cleaned(value) for name, value in values.items()}


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return _cleaned_mapping({str(name): item for name, item in value.items()})
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value


def clean_text(text: str) -> str:
    """The text without bearer credentials, tokens of ours, passwords in URLs and secret parameters."""
    text = _BEARER.sub(rf"\1 {_HIDDEN}", text)
    text = _USERINFO.sub(_HIDDEN, text)
    text = _PARAMETERS.sub(rf"\1={_HIDDEN}", text)
    return _TOKENS.sub(_HIDDEN, text)


@lru_cache(maxsize=_KNOWN_PATHS)
def _clean_path(path: str) -> str:
    """As `clean_text`: what clients ask for is mostly what they asked for before."""
    return clean_text(path)


def begin_line(request_id: str) -> None:
    """From here on the thread's lines carry this request id."""
    _line_of.set(request_id)


def end_line() -> None:
    """The thread's next lines belong to no request."""
    _line_of.set(None)


def _with_request_id(_logger: Any, _method: str, event: EventDict) -> EventDict:
    if (request_id := _line_of.get()) is not None:
        event.setdefault("request_id", request_id)
    return event


def log_access(request: Request, state: RequestState, status: int, seconds: float) -> None:
    """The one line of a finished request: no body, no query string, no credential."""
    route = request.url_rule.rule if request.url_rule else None
    quiet = route in _QUIET_ROUTES and status < 400
    level = logging.DEBUG if quiet else logging.WARNING if status >= 500 else logging.INFO
    caller = state.principal
    fields = {
        "method": request.method,
        "route": route,
        "path": request.path[:200],
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        "address": request.remote_addr,
        "tenant_id": caller.tenant_id if caller else None,
        "principal_id": caller.id if caller else None,
    }
    if not _access_lines.write(level, fields, state.request_id):
        _log.log(level, "request", **fields)


_LEVELS: Final = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}


class _AccessLines:
    """Writes a process's access lines as JSON past structlog, whose chain costs five times as much, in the same form.

    What a client chose, the path and the request's id, is cleaned as in every other line.
    """

    def __init__(self) -> None:
        self.handler: logging.StreamHandler[TextIO] | None = None
        self._levels = logging.getLogger("agenthub.access")

    def write(self, level: int, fields: dict[str, Any], request_id: str) -> bool:
        """Whether the line is dealt with: not before `configure_logs`, and not where lines are text for people."""
        handler = self.handler
        if handler is None or handler not in logging.getLogger().handlers:
            return False
        if self._levels.isEnabledFor(level):
            line = fields | {
                "path": _clean_path(fields["path"]),
                "event": "request",
                "request_id": request_id if is_id(request_id) else clean_text(request_id),
                "level": _LEVELS[level],
                "logger": "agenthub.access",
                "timestamp": datetime.now(UTC),
            }
            _write_line(handler, dumps(line).decode())
        return True


def _write_line(handler: logging.StreamHandler[TextIO], line: str) -> None:
    with handler.lock or nullcontext(), suppress(OSError, ValueError):  # no log to write to is no reason to fail a request
        handler.stream.write(line + handler.terminator)
        handler.flush()


_access_lines: Final = _AccessLines()
