"""HTTP routes of signing in and out, one's own sessions, password, roles and permissions."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from agenthub.core.errors import PermissionDenied
from agenthub.repositories.base import Page
from agenthub.repositories.operations import row_of
from agenthub.repositories.platform.organizations import Organization, OrganizationRepository
from agenthub.repositories.platform.principals import Principal
from agenthub.repositories.platform.roles import PERMISSIONS, ROLE_PERMISSIONS
from agenthub.repositories.platform.sessions import SessionRepository
from agenthub.repositories.platform.users import User, UserRepository
from agenthub.services.platform.authentication.logic import SignIn, Visitor
from agenthub.services.platform.authentication.schemas import (
    Login,
    Me,
    OwnSessionOut,
    PasswordChange,
    PermissionOut,
    RoleOut,
    SignedInOut,
)
from agenthub.web.access import client_address, operation, principal, repository, resources
from agenthub.web.declare import accepts, public, returns, signed_in, takes
from agenthub.web.schema import ListOf, PageQuery

bp = Blueprint("auth", __name__)


@bp.post("/login")
@public("signing in is how one gets a credential")
@accepts(Login)
@returns(SignedInOut)
def sign_in(body: Login) -> dict[str, Any]:
    """Begin a session with an e-mail address and a password."""
    begun = SignIn(resources(), operation()).sign_in(body.email, body.password, _visitor())
    who = Principal(
        "user", begun.user.id, begun.user.id, begun.user.tenant_id, begun.user.role, begun.permissions, begun.issued.session.id, ""
    )
    return {
        "session_token": begun.issued.token,
        "expires_at": begun.issued.expires_at,
        "user": _me(who, begun.user, begun.organization),
    }


@bp.post("/logout")
@signed_in()
@returns(None)
def sign_out() -> None:
    """End the session of this request."""
    caller = _user()
    repository(SessionRepository).end(caller.tenant_id, caller.user_id, caller.session_id or "")


@bp.get("/me")
@signed_in()
@returns(Me)
def get_me() -> dict[str, Any]:
    """Who calls, and what they may do."""
    caller = principal()
    user = repository(UserRepository).get(caller.tenant_id, caller.user_id)
    organization = repository(OrganizationRepository).get(caller.tenant_id, caller.tenant_id)
    return _me(caller, user, organization)


@bp.get("/sessions")
@signed_in()
@takes(PageQuery)
@returns(ListOf[OwnSessionOut])
def list_own_sessions(query: PageQuery) -> Page[dict[str, Any]]:
    """One's own sessions, newest first."""
    caller = _user()
    now = resources().clock.now()
    page = repository(SessionRepository).page_of_user(caller.tenant_id, caller.user_id, now, limit=query.limit, cursor=query.cursor)
    return Page(tuple({**row_of(s), "current": s.id == caller.session_id} for s in page.items), page.next_cursor)


@bp.delete("/sessions")
@signed_in()
@returns(None)
def end_other_sessions() -> None:
    """End all of one's own sessions but this one."""
    caller = _user()
    repository(SessionRepository).end_all(caller.tenant_id, caller.user_id, but=caller.session_id)


@bp.delete("/sessions/<session_id>")
@signed_in()
@returns(None)
def end_own_session(session_id: str) -> None:
    """End one of one's own sessions."""
    caller = _user()
    repository(SessionRepository).end(caller.tenant_id, caller.user_id, session_id)


@bp.post("/password")
@signed_in()
@accepts(PasswordChange)
@returns(None)
def change_own_password(body: PasswordChange) -> None:
    """Change one's own password; all of one's other sessions end."""
    caller = _user()
    user = repository(UserRepository).get(caller.tenant_id, caller.user_id)
    change = SignIn(resources(), operation()).change_password
    change(user, body.current_password, body.new_password, _visitor(), keep_session=caller.session_id)


@bp.get("/roles")
@signed_in()
@returns(ListOf[RoleOut])
def list_roles() -> Page[dict[str, Any]]:
    """Every role with its permissions."""
    return Page(tuple({"name": role, "permissions": sorted(held)} for role, held in ROLE_PERMISSIONS.items()), None)


@bp.get("/permissions")
@signed_in()
@returns(ListOf[PermissionOut])
def list_permissions() -> Page[dict[str, Any]]:
    """Every permission with what it allows."""
    return Page(tuple({"name": name, "description": text} for name, text in PERMISSIONS.items()), None)


def _visitor() -> Visitor:
    return Visitor(client_address(), request.headers.get("User-Agent"))


def _user() -> Principal:
    """The caller, who has a session.

    Raises: PermissionDenied for an API key: sessions and passwords are people's.
    """
    caller = principal()
    if caller.kind != "user":
        raise PermissionDenied("this is for signed-in users; an API key has no sessions and no password")
    return caller


def _me(caller: Principal, user: User, organization: Organization) -> dict[str, Any]:
    return {
        "id": user.id,
        "kind": caller.kind,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "organization_id": organization.id,
        "organization": organization.name,
        "permissions": sorted(caller.permissions),
        "session_id": caller.session_id,
        "api_key_id": caller.id if caller.kind == "api_key" else None,
    }
