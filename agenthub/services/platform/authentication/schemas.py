"""Request and answer shapes of authentication."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from agenthub.repositories.platform.api_keys import ApiKeyStatus
from agenthub.repositories.platform.organizations import OrganizationStatus
from agenthub.repositories.platform.passwords import MAX_CHARACTERS, MIN_CHARACTERS
from agenthub.repositories.platform.roles import PERMISSIONS, Role
from agenthub.repositories.platform.users import MAX_EMAIL_LENGTH, UserStatus
from agenthub.web.schema import Id, Moment, Name, PageQuery, Schema, ShownOnce

_SECRET = {"format": "password", "writeOnly": True}

Email = Annotated[
    str, Field(min_length=3, max_length=MAX_EMAIL_LENGTH, json_schema_extra={"format": "email"}, examples=["ada@example.org"])
]
Password = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS, json_schema_extra=_SECRET)]
NewPassword = Annotated[str, Field(min_length=MIN_CHARACTERS, max_length=MAX_CHARACTERS, json_schema_extra=_SECRET)]
ExpectedVersion = Annotated[int | None, Field(ge=1, description="Refuse with 409 unless `version` is this")]


class Login(Schema):
    """Who wants to sign in."""

    email: Email
    password: Password


class Me(Schema):
    """Who calls, and what they may do."""

    id: Id
    kind: Literal["user", "api_key"]
    email: str
    name: str
    role: Role
    organization_id: Id
    organization: Annotated[str, Field(description="The organization's name")]
    permissions: tuple[str, ...]
    session_id: Annotated[str | None, Field(description="The session in use; null for API keys")]
    api_key_id: Annotated[str | None, Field(description="The API key in use; null for sessions")]


class SignedInOut(Schema):
    """A session that begins. Send the token as `Authorization: Bearer TOKEN`."""

    session_token: str
    expires_at: Annotated[datetime, Field(description="The session ends then at the latest; earlier when it is not used")]
    user: Me


class SessionOut(Schema):
    """A sign-in of a user."""

    id: Id
    created_at: datetime
    last_seen_at: datetime
    idle_expires_at: Annotated[datetime, Field(description="The session ends then unless it is used before")]
    absolute_expires_at: datetime
    address: str | None
    user_agent: str | None


class OwnSessionOut(SessionOut):
    """A sign-in of one's own."""

    current: Annotated[bool, Field(description="Whether it is the session of this request")]


class PasswordChange(Schema):
    """A new password of one's own."""

    current_password: Password
    new_password: NewPassword


class PasswordReset(Schema):
    """A new password for a user."""

    new_password: NewPassword


class RoleOut(Schema):
    """A role and what it may do in its own organization."""

    name: Role
    permissions: tuple[str, ...]


class PermissionOut(Schema):
    """A permission and what it allows."""

    name: str
    description: str


class UserCreate(Schema):
    """A new user of the caller's organization."""

    email: Email
    password: NewPassword
    role: Role
    name: Name | None = None


class UserUpdate(Schema):
    """Changes to a user; what is left out stays (the defaults here are never applied).

    `suspended` ends the user's sessions and stops their API keys.
    """

    name: Name = "-"
    role: Role = "viewer"
    status: UserStatus = "active"
    expected_version: ExpectedVersion = None


class UserOut(Schema):
    """A user."""

    id: Id
    organization_id: Annotated[Id, Field(validation_alias="tenant_id")]
    email: str
    name: str
    role: Role
    status: UserStatus
    password_changed_at: datetime
    created_at: datetime
    updated_at: datetime
    version: int


class UserListQuery(PageQuery):
    """Which users."""

    role: Annotated[Role | SkipJsonSchema[None], Field(description="Only users of this role")] = None
    status: Annotated[UserStatus | SkipJsonSchema[None], Field(description="Only users in this status")] = None


class FirstUser(Schema):
    """The first owner of a new organization."""

    email: Email
    password: NewPassword
    name: Name | None = None


class OrganizationCreate(Schema):
    """A new organization with its first owner."""

    name: Name
    owner: FirstUser


class OrganizationUpdate(Schema):
    """Changes to an organization; what is left out stays (the defaults here are never applied). Only the operator changes `status`."""

    name: Name = "-"
    status: OrganizationStatus = "active"
    expected_version: ExpectedVersion = None


class OrganizationOut(Schema):
    """An organization."""

    id: Id
    name: str
    status: OrganizationStatus
    is_operator: Annotated[bool, Field(description="Whether its owners may create other organizations")]
    created_at: datetime
    updated_at: datetime
    version: int


Scopes = Annotated[tuple[str, ...], Field(max_length=len(PERMISSIONS), description="Permissions, such as `search:query`")]


class ApiKeyCreate(Schema):
    """A new API key. It may do what is in `scopes` and what its creator may do at the moment of use."""

    name: Name
    scopes: Scopes
    expires_at: Annotated[Moment | None, Field(description="The key is of no use from then on; null: until it is revoked")] = None


class ApiKeyUpdate(Schema):
    """Changes to an API key."""

    name: Name


class ApiKeyOut(Schema):
    """An API key; the key itself is kept nowhere."""

    id: Id
    name: str
    prefix: Annotated[str, Field(description="The first characters of the key, to tell keys apart")]
    scopes: tuple[str, ...]
    status: ApiKeyStatus
    created_by: Id
    created_at: datetime
    expires_at: datetime | None
    last_used_at: Annotated[datetime | None, Field(description="Exact to the minute")]


class ApiKeyCreated(ApiKeyOut):
    """A new API key with its secret."""

    secret: ShownOnce
    note: str
