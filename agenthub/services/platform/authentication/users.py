"""HTTP routes of users."""

from __future__ import annotations

from flask import Blueprint

from agenthub.core.errors import Conflict
from agenthub.core.types import UserId
from agenthub.repositories.base import Page
from agenthub.repositories.platform.passwords import HASHING, check_new_password
from agenthub.repositories.platform.sessions import Session, SessionRepository
from agenthub.repositories.platform.users import User, UserRepository, new_user, normalise_email
from agenthub.services.platform.authentication.schemas import (
    PasswordReset,
    SessionOut,
    UserCreate,
    UserListQuery,
    UserOut,
    UserUpdate,
)
from agenthub.web.access import principal, repository, resources
from agenthub.web.declare import accepts, requires, returns, takes
from agenthub.web.schema import ListOf, PageQuery

bp = Blueprint("users", __name__)


@bp.post("")
@requires("users:write")
@accepts(UserCreate)
@returns(UserOut, status=201)
def create_user(body: UserCreate) -> User:
    """Create a user in the caller's organization."""
    email = normalise_email(body.email)
    check_new_password(body.password, email)
    users = repository(UserRepository)
    user = new_user(principal().tenant_id, email, body.name, body.role, HASHING.hash(body.password), users.now())
    return users.add(user)


@bp.get("")
@requires("users:read")
@takes(UserListQuery)
@returns(ListOf[UserOut])
def list_users(query: UserListQuery) -> Page[User]:
    """The organization's users, newest first."""
    users = repository(UserRepository)
    return users.page_of(principal().tenant_id, role=query.role, status=query.status, limit=query.limit, cursor=query.cursor)


@bp.get("/<user_id>")
@requires("users:read")
@returns(UserOut)
def get_user(user_id: str) -> User:
    """One user."""
    return repository(UserRepository).get(principal().tenant_id, user_id)


@bp.patch("/<user_id>")
@requires("users:write")
@accepts(UserUpdate)
@returns(UserOut)
def update_user(user_id: str, body: UserUpdate) -> User:
    """Rename a user, assign a role, suspend or activate."""
    changes = body.model_dump(exclude_unset=True, exclude={"expected_version"})
    return repository(UserRepository).change(principal().tenant_id, UserId(user_id), changes, expected_version=body.expected_version)


@bp.delete("/<user_id>")
@requires("users:write")
@returns(None)
def delete_user(user_id: str) -> None:
    """Delete a user with their sessions and API keys."""
    repository(UserRepository).delete(principal().tenant_id, UserId(user_id))


@bp.post("/<user_id>/password")
@requires("users:write")
@accepts(PasswordReset)
@returns(None)
def reset_password(user_id: str, body: PasswordReset) -> None:
    """Give another user a new password; all their sessions end. One's own is changed at /api/auth/password."""
    caller = principal()
    users = repository(UserRepository)
    user = users.get(caller.tenant_id, user_id)
    if user.id == caller.user_id:
        raise Conflict("change your own password at /api/auth/password, which asks for the current one")
    check_new_password(body.new_password, user.email, field="new_password")
    users.set_password(user, HASHING.hash(body.new_password), users.now(), keep_session=None, verb="reset_password")


@bp.get("/<user_id>/sessions")
@requires("sessions:read")
@takes(PageQuery)
@returns(ListOf[SessionOut])
def list_user_sessions(user_id: str, query: PageQuery) -> Page[Session]:
    """A user's sessions, newest first."""
    user = repository(UserRepository).get(principal().tenant_id, user_id)
    now = resources().clock.now()
    return repository(SessionRepository).page_of_user(user.tenant_id, user.id, now, limit=query.limit, cursor=query.cursor)


@bp.delete("/<user_id>/sessions")
@requires("sessions:write")
@returns(None)
def end_user_sessions(user_id: str) -> None:
    """End all sessions of a user."""
    user = repository(UserRepository).get(principal().tenant_id, user_id)
    repository(SessionRepository).end_all(user.tenant_id, user.id)
