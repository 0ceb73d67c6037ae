"""Two organizations full of things whose names carry a canary, and requests whose answers are looked through every time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from werkzeug.test import TestResponse

from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.jobs.handlers import HANDLERS
from agenthub.repositories.knowledge.jobs import OPEN, JobRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.reembeddings import ReembeddingRepository, ReembeddingState, drafted
from agenthub.repositories.knowledge.submitting import ItemDraft, Submissions
from agenthub.repositories.platform.api_keys import ApiKeyRepository
from agenthub.repositories.platform.organizations import OrganizationRepository
from agenthub.repositories.platform.roles import ROLES, Role
from agenthub.repositories.platform.sessions import SessionRepository, new_session
from agenthub.repositories.platform.users import UserRepository
from agenthub.storage.contract import And, Compare, Query
from agenthub.web.access import JOBS
from tests.accounts import ABSOLUTE, IDLE, Account, World
from tests.api import Api

SECRETS: Final = re.compile(r"(password|token|secret)_hash\"?[:=]|\$argon2|Traceback|sqlite3|psycopg|\.py\b.*line \d")
_CACHED: Final = ("/", "/docs", "/static/docs.css", "/api/openapi.json")
"""What holds no data may be kept by browsers."""
WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_BESIDE: Final = ("audit_events", "activity_events", "job_turns", "kb_heat", "kb_intents")
"""Tables that refusals, or threads beside the requests, write to."""
_TOUCHED: Final = {
    "sessions": ("last_seen_at", "idle_expires_at"),
    "api_keys": ("last_used_at",),
}


class Place:
    """The things of one organization that a request can name, made when first asked for.

    `caller` is who will ask: sessions and API keys are the caller's own.
    """

    def __init__(self, house: House, owner: Account, canary: str, caller: Account | None = None) -> None:
        self.house = house
        self.world: World = house.world
        self.owner: Account = owner
        self.canary = canary
        self.caller: Account = caller or owner
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _MAKERS[name](self)
        return self._made[name]

    def label(self) -> str:
        """A name that carries the canary and that nothing else has."""
        return f"{self.canary} {new_id()}"

    def make(self, path: str, body: Any, status: int = 201) -> Any:
        return self.owner.api.post(path, body, status)


def _number(place: Place) -> int:
    place.make(f"/api/agents/{place['agent_id']}/publish", {"note": place.canary}, 200)
    return 1


def _document(place: Place) -> Any:
    base = f"/api/knowledge-bases/{place['knowledge_base_id']}"
    return place.make(f"{base}/documents", {"title": place.label(), "text": f"A text about {place.canary}."})["id"]


def _chunk(place: Place) -> str:
    chunk = f"chunk-{new_id()}"
    items = [{"id": chunk, "text": f"A chunk about {place.canary}."}]
    place.make(f"/api/knowledge-bases/{place['knowledge_base_id']}/chunks", {"items": items}, 200)
    return chunk


def _faq(place: Place) -> Any:
    body = {"question": f"What is {place.label()}?", "answer": f"Something about {place.canary}."}
    return place.make("/api/faqs", {"knowledge_base_id": place["knowledge_base_id"], **body})["id"]


def _query(place: Place) -> Any:
    body = {"question": f"What is {place.label()}?", "knowledge_base_ids": [place["knowledge_base_id"]], "mode": "keyword"}
    return place.make("/api/rag/query", body, 200)["id"]


def _question(place: Place) -> Any:
    body = {"question": f"What is {place.label()}?", "expected_document_ids": [place["document_id"]]}
    return place.make(f"/api/knowledge-bases/{place['knowledge_base_id']}/questions", body)["id"]


def _evaluation(place: Place) -> Any:
    questions = [{"question": f"What is {place.label()}?", "expected_document_ids": [place["document_id"]]}]
    body = {"questions": questions, "settings": {"mode": "keyword"}}
    return place.make(f"/api/knowledge-bases/{place['knowledge_base_id']}/evaluate", body, 200)["evaluation"]["id"]


def _erasure(place: Place) -> Any:
    base = f"/api/knowledge-bases/{place['knowledge_base_id']}"
    for snapshot in place.owner.api.get(f"{base}/snapshots")["items"]:  # named snapshots would keep what is to be erased
        place.owner.api.call("DELETE", f"{base}/snapshots/{snapshot['id']}", 204)
    document = place.make(f"{base}/documents", {"title": place.label(), "text": f"Gone soon: {place.canary}."})["id"]
    return place.make(f"{base}/documents/{document}/erase", None, 202)["id"]


def _job(place: Place) -> str:
    """An open job of a kind that no runner knows, so that it stays as it is."""
    base = KnowledgeBaseRepository(place.world.storage).get(place.owner.tenant_id, place["knowledge_base_id"])
    engine = place.world.app.extensions["agenthub"].knowledge
    drafts = [ItemDraft(place.label(), b"some bytes", title=place.label())]
    return Submissions(place.world.storage, engine).submit(base, "nobody's", drafts, place.owner.user.id, lambda _: None).job.id


def _reembedding(place: Place, state: ReembeddingState = "ready") -> str:
    """A re-embedding into the model that the knowledge base has, as no request would make it: this server has no other model."""
    base = KnowledgeBaseRepository(place.world.storage).get(place.owner.tenant_id, place["knowledge_base_id"])
    row = drafted(base, moved_to=base, state=state, now=place.world.storage.now(), created_by=place.owner.user.id)
    return ReembeddingRepository(place.world.storage).add(replace(row, job_id=place["job_id"])).id


_MAKERS: Final[dict[str, Callable[[Place], Any]]] = {
    "agent_id": lambda place: place.make("/api/agents", {"name": place.label()})["id"],
    "number": _number,
    "knowledge_base_id": lambda place: place.make("/api/knowledge-bases", {"name": place.label()})["id"],
    "document_id": _document,
    "chunk_id": _chunk,
    "erasure_id": _erasure,
    "faq_id": _faq,
    "query_id": _query,
    "job_id": _job,
    "question_id": _question,
    "evaluation_id": _evaluation,
    "reembedding": _reembedding,
    "switched_reembedding": lambda place: _reembedding(place, "switched"),
    "generation": lambda _: 1,
    "first": lambda _: 1,
    "last": lambda _: 1,
    "snapshot_id": lambda place: place.make(f"/api/knowledge-bases/{place['knowledge_base_id']}/snapshots", {"name": place.label()})["id"],
    "user_id": lambda place: place.world.user(place.owner.tenant_id, "viewer", place.label()).id,
    "session_id": lambda place: place.world.signed_in(place.caller.user).session.session.id,
    "api_key_id": lambda place: place.world.key(place.caller.user)[0].key.id,
    "organization_id": lambda place: place.owner.tenant_id,
    "name": lambda _: "docs.css",
}
"""How the thing behind a path parameter comes to be. A new route with a new parameter adds a line here."""


class House:
    """Organizations `ours` and `theirs`, the operator, and callers of every kind in `ours`."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world: World = world
        self.folder = folder
        self.our_canary = f"canary-ours-{new_id()}"
        self.their_canary = f"canary-theirs-{new_id()}"
        self.our_owner = world.account(world.organization(self.our_canary).id)
        self.their_owner = world.account(world.organization(self.their_canary).id)
        self.operator = world.operator()
        self.ours = Place(self, self.our_owner, self.our_canary)
        self.theirs = Place(self, self.their_owner, self.their_canary)
        self.rejected = dict(self._rejected())

    def place_of(self, caller: Account) -> Place:
        """Fresh things in the caller's organization."""
        if caller.tenant_id == self.their_owner.tenant_id:
            return Place(self, self.their_owner, self.their_canary, caller)
        if caller.tenant_id == self.operator.tenant_id:
            return Place(self, self.operator, "canary-operator", caller)
        return Place(self, self.our_owner, self.our_canary, caller)

    def second_owner(self) -> Account:
        """A new owner of our organization, for tests that may spoil the account."""
        return self.member("owner")

    def member(self, role: Role) -> Account:
        """A new member of our organization."""
        return self.world.account(self.our_owner.tenant_id, role)

    def _rejected(self) -> Iterator[tuple[str, Api]]:
        """Clients that nobody is behind any more: each must be answered 401 everywhere."""
        world, tenant = self.world, self.our_owner.tenant_id
        users, sessions, keys = UserRepository(world.storage), SessionRepository(world.storage), ApiKeyRepository(world.storage)
        everything = sorted(self._all_permissions())
        yield "anonymous", world.anonymous
        yield "a token that was never given out", Api(world.app, "ahs_" + "A" * 43)

        suspended = world.account(tenant)
        _, suspended_key = world.key(suspended.user, everything)
        users.change(tenant, suspended.user.id, {"status": "suspended"})
        yield "suspended user, new session", world.signed_in(suspended.user).api
        yield "suspended user, old session", suspended.api
        yield "key of a suspended creator", suspended_key

        ended = world.account(tenant)
        sessions.end(tenant, ended.user.id, ended.session.session.id)
        yield "ended session", ended.api
        for label, age in (("idle session", IDLE), ("session past its absolute end", ABSOLUTE)):
            old = new_session(tenant, ended.user.id, world.clock.now() - age, idle_life=IDLE, absolute_life=ABSOLUTE)
            yield label, Api(world.app, sessions.start(old).token)

        deleted = world.account(tenant)
        _, deleted_key = world.key(deleted.user, everything)
        users.delete(tenant, deleted.user.id)
        yield "session of a deleted user", deleted.api
        yield "key of a deleted creator", deleted_key

        revoked, revoked_key = world.key(self.our_owner.user, everything)
        keys.revoke(tenant, revoked.key.id, created_by=None)
        yield "revoked key", revoked_key
        yield "expired key", world.key(self.our_owner.user, everything, world.clock.now() - timedelta(seconds=1))[1]

        closed = world.account()
        _, closed_key = world.key(closed.user, everything)
        OrganizationRepository(world.storage).change(closed.tenant_id, closed.tenant_id, {"status": "suspended"})
        yield "owner of a suspended organization", closed.api
        yield "key of a suspended organization", closed_key

    def _all_permissions(self) -> set[str]:
        return set(self.our_owner.api.get("/api/auth/me")["permissions"])

    def send(self, client: Api, method: str, path: str, *, of: str | None = None, **arguments: Any) -> TestResponse:
        """Send a request and look its answer through: shape, headers, secrets, and nobody else's canary.

        `of` is the canary of the caller's own organization, the only one the answer may contain.
        """
        response = client.send(method, path, **arguments)
        text = response.get_data(as_text=True)
        where = (method, path, response.status_code, text[:1000])
        assert response.status_code < 500, where
        for canary in {self.our_canary, self.their_canary} - {of}:
            assert canary not in text and canary not in str(response.headers), where
        assert not SECRETS.search(text), where
        check_headers(response, where)
        if response.status_code >= 400:
            check_error(response, where)
        return response

    def snapshot(self) -> dict[str, Any]:
        """Every row but events, turns of runners and the moments at which credentials were last seen."""
        tables: dict[str, Any] = {}
        self._jobs_rest()
        with self.world.storage._lock:  # threads beside the requests write too
            for name, shelf in self.world.storage._shelves.items():
                skipped = _TOUCHED.get(name, ())
                if name not in _BESIDE:
                    tables[name] = {key: {c: v for c, v in row.items() if c not in skipped} for key, row in shelf.rows.items()}
        return tables

    def _jobs_rest(self) -> None:
        """Wait until no job is worked on, or about to be: what a runner writes is not the request's doing."""
        limit = time.monotonic() + 240
        open_ones = Query(And((Compare("status", "in", OPEN), Compare("kind", "in", tuple(HANDLERS)))), limit=1000)
        while self.world.app.extensions[JOBS]._thread is not None and time.monotonic() < limit:
            now = self.world.storage.now()
            if not any(
                row["fence"] or row["due_at"] <= now for row in self.world.storage.find(JobRepository.table, EVERY_TENANT, open_ones)
            ):
                return
            time.sleep(0.01)


def check_headers(response: TestResponse, where: object) -> None:
    """D2-18: the headers that every answer has, errors too."""
    headers = response.headers
    assert headers["X-Content-Type-Options"] == "nosniff", where
    assert headers["Referrer-Policy"] in ("no-referrer", "same-origin"), where
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin", where
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and ("frame-ancestors 'none'" in policy or policy.startswith("sandbox")), where
    assert "unsafe" not in policy.partition("style-src")[0] and "unsafe-eval" not in policy, where
    assert "unsafe" not in policy or response.request.path == "/docs", where
    assert headers["X-Frame-Options"] == "DENY", where
    assert headers["X-Request-ID"], where
    assert "no-store" in headers["Cache-Control"] or response.request.path in _CACHED, where
    assert "Access-Control-Allow-Origin" not in headers, where
    assert "Set-Cookie" not in headers, where
    assert len(headers.getlist("Content-Type")) <= 1, where


def check_error(response: TestResponse, where: object) -> None:
    """The one shape of errors."""
    assert response.is_json, where
    body = response.get_json()
    assert set(body) == {"error"}, where
    assert {"code", "message", "request_id"} <= set(body["error"]) <= {"code", "message", "request_id", "field"}, where
    assert body["error"]["request_id"] == response.headers["X-Request-ID"], where
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer"), where
    if response.status_code in (429, 503):
        assert int(response.headers["Retry-After"]) >= 1, where


__all__ = ["ROLES", "WRITES", "House", "Place", "check_error", "check_headers"]
