"""What a view may ask about its request: who calls, with which resources, under which operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from flask import current_app, g, has_request_context, request

from agenthub.cache.limits import Standing
from agenthub.core.errors import Unauthenticated
from agenthub.jobs.thread import JobThread
from agenthub.repositories.base import Repository
from agenthub.repositories.operations import Actor, Operation
from agenthub.repositories.platform.principals import Principal
from agenthub.resources import Resources
from agenthub.storage.contract import Row, Storage

EXTENSION: Final = "agenthub"
JOBS: Final = "agenthub_jobs"
R_co = TypeVar("R_co", covariant=True)
E = TypeVar("E")


class RepositoryType(Protocol[R_co]):
    """A repository's class: built from a storage and the request's operation."""

    def __call__(self, storage: Storage, operation: Operation, /) -> R_co: ...


@dataclass(slots=True)
class RequestState:
    """What the web layer knows of the request in hand. Lives in Flask's `g`, never leaves `web/`."""

    request_id: str
    started_seconds: float
    principal: Principal | None = None
    operation: Operation = field(default_factory=Operation)
    foreseen: Row | None = None
    standing: Standing | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def state() -> RequestState:
    """The state of the request in hand."""
    found: RequestState = g.agenthub
    return found


def request_id() -> str:
    """The id of the request in hand, also answered as X-Request-ID; `-` outside of one."""
    found: RequestState | None = g.get("agenthub") if has_request_context() else None
    return found.request_id if found else "-"


def principal() -> Principal:
    """Who calls.

    Raises: Unauthenticated on a public route called without a credential.
    """
    found = state().principal
    if found is None:
        raise Unauthenticated("this needs a session token or an API key")
    return found


def resources() -> Resources:
    """What the process has opened."""
    found: Resources = current_app.extensions[EXTENSION]
    return found


def jobs() -> JobThread:
    """What works on jobs behind the requests of this process, and waits for them."""
    found: JobThread = current_app.extensions[JOBS]
    return found


def operation() -> Operation:
    """The write of this request: hand it to everything that commits."""
    return state().operation


def repository(kind: RepositoryType[R_co]) -> R_co:
    """A repository over the process's storage that commits under this request's operation."""
    return kind(resources().storage, operation())


def foreseen(kind: type[Repository[E]], key: str) -> E | None:
    """What the statement that asked who calls found for a view that `foresees` it; None when it must be asked for."""
    row = state().foreseen
    return kind(resources().storage).foreseen(row) if row is not None and row[kind.table.key] == key else None


def client_address() -> str:
    """The caller's address, through as many proxies as AGENTHUB_TRUSTED_PROXY_HOPS says; `unknown` on a unix socket."""
    return request.remote_addr or "unknown"


def actor_of(caller: Principal | None) -> Actor:
    """What audit rows of this request say about its caller."""
    if caller is None:
        return Actor("anonymous", None, client_address(), request_id())
    return Actor(caller.kind, caller.id, client_address(), request_id())
