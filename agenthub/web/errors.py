"""The one table from errors to statuses and bodies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import structlog
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from agenthub.core import errors
from agenthub.core.json import dumps
from agenthub.web.access import request_id
from agenthub.web.schema import ErrorDetail

_log = structlog.get_logger("agenthub.web")


@dataclass(frozen=True, slots=True)
class Refusal:
    """How one kind of error is answered."""

    status: int
    code: str
    retry_after_seconds: float | None = None


TABLE: Final[dict[type[errors.AgentHubError], Refusal]] = {
    errors.MalformedInput: Refusal(400, "malformed_input"),
    errors.Unauthenticated: Refusal(401, "unauthenticated"),
    errors.PermissionDenied: Refusal(403, "permission_denied"),
    errors.NotFound: Refusal(404, "not_found"),
    errors.NotRetained: Refusal(410, "not_retained"),
    errors.Conflict: Refusal(409, "conflict"),
    errors.AlreadyExists: Refusal(409, "already_exists"),
    errors.VersionConflict: Refusal(409, "version_conflict"),
    errors.GenerationConflict: Refusal(409, "generation_conflict", 1),
    errors.ModelMismatch: Refusal(409, "model_mismatch"),
    errors.WrongVectorEngine: Refusal(409, "wrong_vector_engine"),
    errors.OperationReused: Refusal(409, "operation_reused"),
    errors.PayloadTooLarge: Refusal(413, "payload_too_large"),
    errors.InvalidInput: Refusal(422, "invalid_input"),
    errors.UnsupportedDocument: Refusal(422, "unsupported_document"),
    errors.RateLimited: Refusal(429, "rate_limited", 1),
    errors.AddressRefused: Refusal(422, "address_refused"),
    errors.FetchFailed: Refusal(502, "fetch_failed"),
    errors.ProviderFailure: Refusal(502, "provider_failure"),
    errors.StorageUnavailable: Refusal(503, "storage_unavailable", 1),
    errors.OutcomeUnknown: Refusal(503, "outcome_unknown", 1),
    errors.WritesPaused: Refusal(503, "writes_paused", 2),
    errors.CacheUnavailable: Refusal(503, "cache_unavailable", 1),
    errors.VolumeUnavailable: Refusal(503, "volume_unavailable", 1),
    errors.CorruptFile: Refusal(503, "volume_unavailable", 1),
    errors.VectorEngineUnavailable: Refusal(503, "vector_engine_unavailable", 2),
    errors.VolumeFull: Refusal(507, "volume_full"),
}
INTERNAL: Final = Refusal(500, "internal")

HTTP_CODES: Final[dict[int, tuple[str, str]]] = {
    400: ("malformed_input", "the request can't be read"),
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not take this method"),
    413: ("payload_too_large", "the request is larger than this address takes"),
    414: ("payload_too_large", "the address is too long"),
    415: ("unsupported_media_type", "this Content-Type is not taken here"),
    431: ("payload_too_large", "the request's headers are too large"),
}


def refusal_of(error: errors.AgentHubError) -> Refusal:
    """The entry of an error's nearest class in the table; `internal` for one that should not reach a request."""
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), INTERNAL)


def error_detail(error: errors.AgentHubError) -> tuple[int, ErrorDetail]:
    """The status and body detail of an error, for answers that report on several items."""
    refusal = refusal_of(error)
    return refusal.status, ErrorDetail(code=refusal.code, message=error.message, field=error.field, request_id=request_id())


def error_response(status: int, code: str, message: str, field: str | None = None) -> Response:
    """A response of the contract's error shape."""
    detail: dict[str, str] = {"code": code, "message": message, "request_id": request_id()}
    if field is not None:
        detail["field"] = field
    response = Response(dumps({"error": detail}), status, mimetype="application/json")
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="agenthub"'
    return response


def install_errors(app: Flask) -> None:
    """Answer every failure of this application in the contract's shape."""
    app.register_error_handler(errors.AgentHubError, _on_known)
    app.register_error_handler(HTTPException, _on_http)
    app.register_error_handler(Exception, _on_unknown)


def _on_known(error: errors.AgentHubError) -> Response:
    refusal = refusal_of(error)
    if refusal is INTERNAL:
        return _on_unknown(error)
    if refusal.status >= 500:
        _log.warning("request refused", code=refusal.code, reason=error.message, cause=repr(error.__cause__ or ""))
    response = error_response(refusal.status, refusal.code, error.message, error.field)
    seconds = error.retry_after_seconds if error.retry_after_seconds is not None else refusal.retry_after_seconds
    if seconds is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return response


def _on_http(error: HTTPException) -> Response:
    status = error.code or 500
    code, message = HTTP_CODES.get(status, ("internal", "something went wrong") if status >= 500 else ("malformed_input", error.name))
    response = error_response(status, code, message)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _on_unknown(error: Exception) -> Response:
    _log.error("request failed", exc_info=error)
    return error_response(500, "internal", "something went wrong on our side; the log has the details under this request id")
