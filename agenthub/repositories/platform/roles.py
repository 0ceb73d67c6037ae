"""Roles, permissions, and which role may do what."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal, get_args

Role = Literal["owner", "admin", "devops", "user", "viewer"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)

CREATE_ORGANIZATIONS: Final = "organizations:create"
"""Held by owners of the operator organization only; see `permissions_of`."""

OPERATE_CACHE: Final = "cache:operate"
"""Held in the operator organization only, for the cache is everybody's; see `permissions_of`."""

PERMISSIONS: Final = MappingProxyType(
    {
        "organizations:read": "see one's own organization",
        "organizations:write": "rename one's own organization",
        CREATE_ORGANIZATIONS: "create, list, rename and suspend other organizations (owners of the operator organization only)",
        "users:read": "see the organization's users",
        "users:write": "create, change, suspend and delete users, assign roles, reset passwords",
        "sessions:read": "see other users' sessions (one's own are always visible)",
        "sessions:write": "end other users' sessions (one's own can always be ended)",
        "api-keys:read": "see one's own API keys",
        "api-keys:write": "create, rename and revoke one's own API keys",
        "api-keys:manage": "see, rename and revoke every API key of the organization",
        "agents:read": "see agents and their versions",
        "agents:write": "create, change, publish and delete agents",
        "knowledge-bases:read": "see knowledge bases and their statistics",
        "knowledge-bases:write": "create, rename and delete knowledge bases",
        "documents:read": "see documents, chunks and originals",
        "documents:write": "upload, replace and delete documents and chunks",
        "faqs:read": "see FAQs and export them",
        "faqs:write": "create, change, import and delete FAQs",
        "rag:query": "ask questions of knowledge bases and agents",
        "rag-queries:read": "see the organization's questions and answers",
        "rag-queries:write": "delete questions and answers from the history",
        "jobs:read": "see jobs, their progress and results",
        "jobs:write": "cancel jobs and try them again",
        "jobs:run": "let this deployment work on open jobs: for a scheduler",
        "evaluations:read": "see saved questions and evaluations",
        "evaluations:write": "save questions, evaluate generations, delete evaluations",
        "responses:create": "go on with conversations by the language model",
        "embeddings:create": "embed texts",
        "search:query": "search knowledge bases",
        "analytics:read": "see figures of the organization: uses, messages, metrics, jobs",
        "warehouse:read": "see how far the deployment's warehouse is behind",
        "warehouse:run": "let this deployment export events to its warehouse: for a scheduler",
        "audit:read": "read the organization's audit log",
        "health:read": "see the readiness of each dependency and the backends in use",
        "metrics:read": "read the process metrics",
        OPERATE_CACHE: "flush and warm the cache of all organizations (owners, admins and devops of the operator organization only)",
    }
)
"""Every permission there is, with what it allows. A permission is `resource:action`."""

_READING: Final = frozenset(
    {
        "organizations:read",
        "agents:read",
        "knowledge-bases:read",
        "documents:read",
        "jobs:read",
        "faqs:read",
        "search:query",
        "rag:query",
        "evaluations:read",
    }
)
_WORKING: Final = _READING | {
    "agents:write",
    "knowledge-bases:write",
    "documents:write",
    "faqs:write",
    "rag-queries:read",
    "rag-queries:write",
    "jobs:write",
    "responses:create",
    "evaluations:write",
    "embeddings:create",
    "api-keys:read",
    "api-keys:write",
}
_OPERATING: Final = _READING | {
    "users:read",
    "jobs:run",
    "analytics:read",
    "warehouse:read",
    "warehouse:run",
    "embeddings:create",
    "api-keys:read",
    "api-keys:write",
    "audit:read",
    "health:read",
    "metrics:read",
}
_ADMINISTERING: Final = _WORKING | _OPERATING | {"sessions:read", "sessions:write", "api-keys:manage"}

ROLE_PERMISSIONS: Final[MappingProxyType[Role, frozenset[str]]] = MappingProxyType(
    {
        "owner": frozenset(PERMISSIONS) - {CREATE_ORGANIZATIONS, OPERATE_CACHE},
        "admin": _ADMINISTERING,
        "devops": _OPERATING,
        "user": _WORKING,
        "viewer": _READING,
    }
)
"""What each role may do in its own organization."""


def permissions_of(role: Role, *, in_operator_organization: bool) -> frozenset[str]:
    """What a user of this role may do; those who run the deployment may also operate the cache, and its owners create organizations."""
    if not in_operator_organization or role not in ("owner", "admin", "devops"):
        return ROLE_PERMISSIONS[role]
    return frozenset(PERMISSIONS) if role == "owner" else ROLE_PERMISSIONS[role] | {OPERATE_CACHE}
