"""Idempotency-Key: a write applied once, however often it is sent."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from flask import Response, request

from agenthub.core.errors import AgentHubError, InvalidInput, OperationReused, VersionConflict
from agenthub.core.json import dumps, loads
from agenthub.repositories.base import OperationRepeated
from agenthub.repositories.operations import AppliedOperation, AppliedOperations, Operation, operation_id
from agenthub.web.access import resources, state
from agenthub.web.answers import Rendered, render, render_for_repeats
from agenthub.web.declare import Declaration

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
MAX_KEY_LENGTH: Final = 255
ACCEPTED: Final = 202
WAIT: Final = "wait"
"""The query parameter of views that resume: seconds until they answer 202."""
_SWEEP_ONE_IN: Final = 500


def once(declaration: Declaration, body_sha256: str, view: Callable[..., Any], arguments: Mapping[str, Any]) -> Response:
    """The response of a write: the view's, or the first one's if this Idempotency-Key was applied before.

    A failed request leaves no trace, so its key may be used again. Without a principal a key means nothing.
    Raises: InvalidInput for an unusable key; OperationReused when the key came with another request before.
    """
    key = _key()
    if key is None:
        return _respond(declaration, view(**arguments))
    operation = _keyed(key, body_sha256, declaration)
    applied = _find(operation)
    if applied is not None:
        return _replay(declaration, operation, applied, arguments)
    try:
        result = view(**arguments)
        response = _respond(declaration, result)
        _settle(declaration, operation, result, response.status_code)
        _sweep_sometimes()
        return response
    except OperationRepeated as error:
        applied = _find(operation)
        if applied is None:
            raise VersionConflict("another request with this Idempotency-Key is being applied; repeat it") from error
        return _replay(declaration, operation, applied, arguments)


def _settle(declaration: Declaration, operation: Operation, result: Any, status: int) -> None:
    """Let repeats get the last answer of a write whose first was 202. A failure costs nothing: they find it anew."""
    if declaration.resumes is None or status == ACCEPTED or operation.id is None:
        return
    caller = state().principal
    assert caller is not None
    with suppress(AgentHubError):
        AppliedOperations(resources().storage).settle(caller.tenant_id, operation.id, render_for_repeats(declaration, result))


def _sweep_sometimes() -> None:
    """About one keyed write in 500 forgets the operations past their retention; a failure costs the write nothing."""
    if secrets.randbelow(_SWEEP_ONE_IN) == 0:
        with suppress(AgentHubError):
            AppliedOperations(resources().storage).sweep()


def _key() -> str | None:
    key = request.headers.get(HEADER)
    if key is None or state().principal is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise InvalidInput(f"must be 1 to {MAX_KEY_LENGTH} printable ASCII characters", field=HEADER)
    return key


def _keyed(key: str, body_sha256: str, declaration: Declaration) -> Operation:
    caller = state().principal
    assert caller is not None
    operation = state().operation
    operation.id = operation_id(caller.tenant_id, caller.id, key)
    # The key, which is kept nowhere, salts the hash: bodies may hold passwords, and a bare fast hash of one can be guessed.
    # How long a caller waits is no part of what it asks for.
    asked = sorted(item for item in request.args.items(multi=True) if declaration.resumes is None or item[0] != WAIT)
    payload = [key, request.method, request.path, asked, body_sha256]
    operation.payload_sha256 = hashlib.sha256(dumps(payload)).hexdigest()
    operation.render = lambda result: render_for_repeats(declaration, result)
    return operation


def _find(operation: Operation) -> AppliedOperation | None:
    caller = state().principal
    if caller is None or operation.id is None:
        return None
    return AppliedOperations(resources().storage).find(caller.tenant_id, operation.id)


def _replay(declaration: Declaration, operation: Operation, applied: AppliedOperation, arguments: Mapping[str, Any]) -> Response:
    if applied.payload_sha256 != operation.payload_sha256:
        raise OperationReused("this Idempotency-Key was used before with a different request", field=HEADER)
    if declaration.resumes is not None and applied.status == ACCEPTED:
        result = declaration.resumes(first=loads(applied.body), **arguments)
        response = _respond(declaration, result)
        response.headers[REPLAYED] = "true"
        _settle(declaration, operation, result, response.status_code)
        return response
    answered = declaration.answer(applied.status)
    media_type = answered.media_type if answered else "application/json"
    return Rendered(applied.status, applied.body, media_type, {**applied.headers, REPLAYED: "true"}).response()


def _respond(declaration: Declaration, result: Any) -> Response:
    return result if isinstance(result, Response) else render(declaration, result).response()
