"""What stands around every view: who may call comes first, then path, query and body, then once-only writes, then the view.

Denied by default: an application with a view that says nothing about access is not built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Flask, Response, request

from agenthub.core.errors import PermissionDenied, Unauthenticated
from agenthub.core.ids import is_id
from agenthub.repositories.base import Repository
from agenthub.repositories.operations import Operation
from agenthub.repositories.platform.audit_events import note_refusal
from agenthub.repositories.platform.principals import Principal, Principals
from agenthub.web.access import actor_of, resources, state
from agenthub.web.answers import render
from agenthub.web.declare import Access, Declaration, declaration_of
from agenthub.web.idempotency import once
from agenthub.web.limits import limit_address, limit_caller
from agenthub.web.reading import check_path, read_body, read_query

WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
MAX_TOKEN_LENGTH: Final = 512


class UndeclaredView(Exception):
    """A route was registered whose view says nothing about who may call it: a programming error that stops the start."""


def install_guard(app: Flask) -> None:
    """Put the guard around every registered view; call it after the last blueprint.

    Raises: UndeclaredView, naming the routes, when a view declares no access.
    """
    bare = sorted(rule.rule for rule in app.url_map.iter_rules() if declaration_of(app.view_functions[rule.endpoint]).access is None)
    if bare:
        raise UndeclaredView(f"say requires(…), signed_in() or public(…) on the views of: {', '.join(bare)}")
    for endpoint, view in list(app.view_functions.items()):
        app.view_functions[endpoint] = _guarded(view, declaration_of(view))


def _guarded(view: Callable[..., Any], declaration: Declaration) -> Callable[..., Response]:
    def run(**path: Any) -> Response:
        if _limited(declaration.access):
            limit_address()
        admit(declaration.access, _foresight(declaration, path))
        check_path(path, declaration.free_path)
        query = read_query(declaration.query)
        received = read_body(declaration.body)
        arguments = {**path, **query, **received.arguments}
        if request.method in WRITES:
            return once(declaration, received.sha256, view, arguments)
        return respond(declaration, view(**arguments))

    run.__name__ = getattr(view, "__name__", "view")
    run.__doc__ = view.__doc__
    setattr(run, "agenthub_declaration", declaration)  # noqa: B010 (a function has no such attribute for mypy)
    return run


def respond(declaration: Declaration, result: Any) -> Response:
    """A view's result as a response; a ready Flask response passes."""
    if isinstance(result, Response):
        return result
    return render(declaration, result).response()


def _limited(access: Access | None) -> bool:
    """Whether an address has a limit here: not where platforms and browsers only look."""
    return access is not None and (access.kind != "public" or request.method in WRITES)


def _foresight(declaration: Declaration, path: Mapping[str, Any]) -> tuple[type[Repository[Any]], str] | None:
    """The row to read beside the caller, where the view wants one and the path names one."""
    if declaration.foresees is None or not is_id(path[declaration.foresees[1]]):
        return None
    return declaration.foresees[0], path[declaration.foresees[1]]


def admit(access: Access | None, beside: tuple[type[Repository[Any]], str] | None = None) -> None:
    """Return if the caller may call, noting who it is, and the row to read `beside` it.

    Raises: Unauthenticated without a valid credential; PermissionDenied when the principal lacks the permission.
    """
    if access is None:
        raise PermissionDenied("this route admits nobody")
    if access.kind == "public":
        state().operation = Operation(actor_of(None))
        return
    caller = authenticate(beside)
    limit_caller(caller)
    if access.kind == "permission" and access.permission not in caller.permissions:
        _note_refusal(caller, access.permission)
        raise PermissionDenied(f"this needs the permission {access.permission}")


def authenticate(beside: tuple[type[Repository[Any]], str] | None = None) -> Principal:
    """The principal of the request's bearer token, which is then the request's principal.

    Raises: Unauthenticated when there is none, or it is no longer valid.
    """
    token = bearer_token()
    if token is None:
        raise Unauthenticated("this needs a session token or an API key: Authorization: Bearer TOKEN")
    principals = Principals(resources().storage, resources().clock)
    if beside is None:
        caller = principals.find(token)
    else:
        caller, state().foreseen = principals.find_with(token, beside[0].table, beside[1])
    if caller is None:
        raise Unauthenticated("this token is not valid, or no longer")
    state().principal = caller
    state().operation = Operation(actor_of(caller))
    return caller


def bearer_token() -> str | None:
    """The token of `Authorization: Bearer TOKEN`, or None when there is no usable one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    usable = scheme.lower() == "bearer" and 0 < len(token) <= MAX_TOKEN_LENGTH and token.isascii() and token.isprintable()
    return token if usable else None


def _note_refusal(caller: Principal, permission: str) -> None:
    """Audit a refused change. Reading what one may not is answered 403 without a row: a client that polls would flood the log."""
    if request.method not in WRITES:
        return
    details = {"permission": permission, "method": request.method, "route": str(request.url_rule)}
    note_refusal(resources().storage, actor_of(caller), caller.tenant_id, "access.refuse", kind="route", details=details)
