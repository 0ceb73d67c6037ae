"""The table of the security matrix (RELIABILITY.md D2-1): one row for every method and route of the whole application.

A route without a row fails `test_matrix.py`. To add one: a `Row` here and, if its path has a parameter that is new, a line in
`places._MAKERS` that makes the thing. Ids in bodies go to `named`, so that foreign ones are tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from agenthub.core.ids import new_id
from agenthub.rag.embedding.weights import MODEL
from tests.accounts import PASSWORD
from tests.security.places import Place

SIGNED_IN: Final = "signed in"
PUBLIC: Final = "public"
OPERATOR_ONLY: Final = ("organizations:create", "cache:operate")
"""Permissions that nobody has outside the operator organization."""

Body = Callable[[Place], Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One route. `access` is a permission, SIGNED_IN or PUBLIC; `status` what a valid request of a permitted caller is answered;
    `json` builds its body from the caller's things.

    `named` builds, for each id position of the body, a body that names the given id there. `users_only`: an API key is refused
    though it is signed in. `presented`: a public route that judges a credential by this permission if one is sent.
    `data`: the body of a route that takes a file as it is.
    `needs`: things that must be there although the request names none of them. `asks`: ids that the query string names.
    """

    method: str
    route: str
    access: str
    status: int = 200
    json: Body | None = None
    named: dict[str, Callable[[Place, str], Any]] = field(default_factory=dict)
    users_only: bool = False
    presented: str = ""
    needs: tuple[str, ...] = ()
    data: Callable[[Place], bytes] | None = None
    asks: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """The path parameters in order."""
        return tuple(re.findall(r"<(?:\w+:)?(\w+)>", self.route))

    @property
    def named_ids(self) -> tuple[str, ...]:
        """The parameters of path and query string."""
        return (*self.parameters, *self.asks)

    @property
    def id(self) -> str:
        return f"{self.method} {self.route}"

    def path(self, place: Place, **given: Any) -> str:
        """The route with the things of that place, except those given."""
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: str(given.get(match[1]) or place[match[1]]), self.route)
        asked = "&".join(f"{name}={given.get(name) or place[name]}" for name in self.asks)
        return f"{path}?{asked}" if asked else path

    def arguments(self, place: Place) -> dict[str, Any]:
        """What is sent with a valid request."""
        for name in self.needs:
            place[name]
        if self.data is not None:
            return {"data": self.data(place)}
        return {} if self.json is None else {"json": self.json(place)}


def _said(value: Any) -> Body:
    return lambda _: value


def _login(place: Place) -> Any:
    return {"email": place.world.user(place.owner.tenant_id, "viewer").email, "password": PASSWORD}


def _new_user(_: Place) -> Any:
    return {"email": f"{new_id()}@example.org", "password": PASSWORD, "role": "viewer"}


def _new_organization(place: Place) -> Any:
    return {"name": place.label(), "owner": {"email": f"{new_id()}@example.org", "password": PASSWORD, "name": "Ada"}}


def _label(**more: Any) -> Body:
    return lambda place: {"name": place.label(), **more}


def _text(place: Place) -> Any:
    return {"title": place.label(), "text": f"Some text about {place.canary}."}


def _rollback(place: Place) -> Any:
    return {"number": place["number"]}


def _bulk(place: Place) -> Any:
    return {"ids": [place["agent_id"]], "status": "paused"}


def _chunks(place: Place) -> Any:
    return {"items": [{"id": f"chunk-{new_id()}", "text": place.canary, "metadata": {}}]}


def _search(place: Place) -> Any:
    place["document_id"]
    return {"query": "What is this about?", "mode": "keyword"}


def _bundle(place: Place) -> bytes:
    """The bundle of a knowledge base that is gone, so that its name is free."""
    made = f"/api/knowledge-bases/{place.make('/api/knowledge-bases', {'name': place.label()})['id']}"
    bundle: bytes = place.owner.api.send("GET", f"{made}/export").data
    place.owner.api.call("DELETE", made, 204)
    return bundle


def _records(place: Place) -> bytes:
    return f'{{"text": "A record of {place.canary}."}}\n'.encode()


def _sync(place: Place) -> dict[str, Any]:
    return {"items": [{"source": place.label(), "sha256": "0" * 64}], "gone_within": {"prefix": ""}}


def _urls(place: Place) -> dict[str, Any]:
    return {"urls": [f"https://127.0.0.1/{place.canary}"]}


def _restore(place: Place) -> Any:
    place["document_id"]
    return {"generation": 1}


def _faq(place: Place) -> Any:
    """The body of a new FAQ."""
    return {"knowledge_base_id": place["knowledge_base_id"], **_question(place)}


def _question(place: Place) -> dict[str, Any]:
    return {"question": f"What is {place.label()}?", "answer": f"A word about {place.canary}."}


def _asked(place: Place, **more: Any) -> Any:
    return {"question": "What is it about?", "knowledge_base_ids": [place["knowledge_base_id"]], "mode": "keyword", **more}


def _expecting(place: Place) -> Any:
    return {"question": f"What is {place.label()}?", "expected_document_ids": [place["document_id"]]}


def _evaluate(place: Place) -> Any:
    return {"questions": [_expecting(place)], "settings": {"mode": "keyword"}}


def _filtered(place: Place, key: str) -> Any:
    return {"query": "text", "mode": "keyword", "filter": {"field": "document_id", "op": "eq", "value": key}}


_BASE = "/api/knowledge-bases/<knowledge_base_id>"

PROBES: Final = (
    Row("GET", "/", PUBLIC),
    Row("GET", "/docs", PUBLIC),
    Row("GET", "/static/<name>", PUBLIC),
    Row("GET", "/metrics", PUBLIC, presented="metrics:read"),
    Row("GET", "/api/openapi.json", PUBLIC),
    Row("GET", "/api/health/live", PUBLIC),
    Row("GET", "/api/health/ready", PUBLIC),
    Row("GET", "/api/health", "health:read"),
)

AUTHENTICATION: Final = (
    Row("POST", "/api/auth/login", PUBLIC, json=_login),
    Row("POST", "/api/auth/logout", SIGNED_IN, 204, users_only=True),
    Row("GET", "/api/auth/me", SIGNED_IN),
    Row("GET", "/api/auth/sessions", SIGNED_IN, users_only=True),
    Row("DELETE", "/api/auth/sessions", SIGNED_IN, 204, users_only=True),
    Row("DELETE", "/api/auth/sessions/<session_id>", SIGNED_IN, 204, users_only=True),
    Row(
        "POST",
        "/api/auth/password",
        SIGNED_IN,
        204,
        _said({"current_password": PASSWORD, "new_password": "an even longer phrase"}),
        users_only=True,
    ),
    Row("GET", "/api/auth/roles", SIGNED_IN),
    Row("GET", "/api/auth/permissions", SIGNED_IN),
    Row("POST", "/api/users", "users:write", 201, _new_user),
    Row("GET", "/api/users", "users:read"),
    Row("GET", "/api/users/<user_id>", "users:read"),
    Row("PATCH", "/api/users/<user_id>", "users:write", json=_said({"role": "user"})),
    Row("DELETE", "/api/users/<user_id>", "users:write", 204),
    Row("POST", "/api/users/<user_id>/password", "users:write", 204, _said({"new_password": "an even longer phrase"})),
    Row("GET", "/api/users/<user_id>/sessions", "sessions:read"),
    Row("DELETE", "/api/users/<user_id>/sessions", "sessions:write", 204),
    Row("POST", "/api/organizations", "organizations:create", 201, _new_organization),
    Row("GET", "/api/organizations", "organizations:read"),
    Row("GET", "/api/organizations/<organization_id>", "organizations:read"),
    Row("PATCH", "/api/organizations/<organization_id>", "organizations:write", json=_label()),
    Row("POST", "/api/api-keys", "api-keys:write", 201, _label(scopes=[])),
    Row("GET", "/api/api-keys", "api-keys:read"),
    Row("GET", "/api/api-keys/<api_key_id>", "api-keys:read"),
    Row("PATCH", "/api/api-keys/<api_key_id>", "api-keys:write", json=_label()),
    Row("DELETE", "/api/api-keys/<api_key_id>", "api-keys:write", 204),
    Row("GET", "/api/logs/audit", "audit:read"),
    Row("GET", "/api/analytics/activity", "analytics:read"),
    Row("GET", "/api/analytics/audit", "audit:read"),
    Row("GET", "/api/analytics/sessions", "audit:read"),
    Row("GET", "/api/database/warehouse", "warehouse:read"),
    Row("POST", "/api/database/warehouse/run", "warehouse:run", 409),
)

AGENTS: Final = (
    Row(
        "POST",
        "/api/agents",
        "agents:write",
        201,
        _label(),
        named={"knowledge_base_id": lambda place, key: {"name": place.label(), "knowledge_base_ids": [key]}},
    ),
    Row("GET", "/api/agents", "agents:read"),
    Row("GET", "/api/agents/<agent_id>", "agents:read"),
    Row(
        "PATCH",
        "/api/agents/<agent_id>",
        "agents:write",
        json=_said({"description": "other"}),
        named={"knowledge_base_id": lambda _, key: {"knowledge_base_ids": [key]}},
    ),
    Row("DELETE", "/api/agents/<agent_id>", "agents:write", 204),
    Row("POST", "/api/agents/<agent_id>/publish", "agents:write", json=_said({"note": "first"})),
    Row("POST", "/api/agents/<agent_id>/rollback", "agents:write", json=_rollback),
    Row("GET", "/api/agents/<agent_id>/versions", "agents:read"),
    Row("GET", "/api/agents/<agent_id>/versions/<int:number>", "agents:read"),
    Row("POST", "/api/agents/<agent_id>/status", "agents:write", json=_said({"status": "archived"})),
    Row(
        "POST",
        "/api/agents/bulk-status",
        "agents:write",
        json=_bulk,
        named={"agent_id": lambda _, key: {"ids": [key], "status": "archived"}},
    ),
)

KNOWLEDGE: Final = (
    Row("POST", "/api/knowledge-bases", "knowledge-bases:write", 201, _label()),
    Row("GET", "/api/knowledge-bases", "knowledge-bases:read"),
    Row("GET", _BASE, "knowledge-bases:read"),
    Row("PATCH", _BASE, "knowledge-bases:write", json=_label()),
    Row("DELETE", _BASE, "knowledge-bases:write", 204),
    Row("GET", f"{_BASE}/generations", "knowledge-bases:read"),
    Row("GET", f"{_BASE}/generations/<int:generation>", "knowledge-bases:read"),
    Row("GET", f"{_BASE}/generations/<int:first>/diff/<int:last>", "documents:read"),
    Row("GET", f"{_BASE}/generations/<int:generation>/content", "documents:read"),
    Row("GET", f"{_BASE}/export", "documents:read"),
    Row("POST", "/api/knowledge-bases/import", "knowledge-bases:write", 201, data=_bundle),
    # Going where it is already is refused; what is done with a re-embedding is done with one that was written down.
    Row("POST", f"{_BASE}/reembedding/estimate", "knowledge-bases:write", 409, _said({"embedding_model": MODEL})),
    Row("POST", f"{_BASE}/reembedding", "knowledge-bases:write", 409, _said({"embedding_model": MODEL})),
    Row("GET", f"{_BASE}/reembedding", "knowledge-bases:read", needs=("reembedding",)),
    Row("POST", f"{_BASE}/reembedding/compare", "knowledge-bases:write", json=_said({"k": 3}), needs=("question_id", "reembedding")),
    Row("POST", f"{_BASE}/reembedding/switch", "knowledge-bases:write", 202, needs=("reembedding",)),
    Row("POST", f"{_BASE}/reembedding/rollback", "knowledge-bases:write", 409, needs=("switched_reembedding",)),
    Row("POST", f"{_BASE}/reembedding/finish", "knowledge-bases:write", needs=("switched_reembedding",)),
    Row("POST", f"{_BASE}/reembedding/cancel", "knowledge-bases:write", needs=("reembedding",)),
    Row("POST", f"{_BASE}/restore", "documents:write", json=_restore),
    Row("POST", f"{_BASE}/undo", "documents:write", needs=("document_id",)),
    Row("POST", f"{_BASE}/snapshots", "knowledge-bases:write", 201, _label()),
    Row("GET", f"{_BASE}/snapshots", "knowledge-bases:read"),
    Row("GET", f"{_BASE}/snapshots/<snapshot_id>", "knowledge-bases:read"),
    Row("DELETE", f"{_BASE}/snapshots/<snapshot_id>", "knowledge-bases:write", 204),
    Row("POST", f"{_BASE}/documents", "documents:write", 201, _text),
    Row("GET", f"{_BASE}/documents", "documents:read"),
    Row("POST", f"{_BASE}/documents/preview", "documents:read", json=_text),
    Row("POST", f"{_BASE}/documents/sync", "documents:read", json=_sync),
    Row("POST", f"{_BASE}/records", "documents:write", 202, data=_records),
    # An address that is refused before anything is asked: no test talks to the world.
    Row("POST", f"{_BASE}/documents/urls", "documents:write", 202, _urls),
    Row(
        "POST",
        f"{_BASE}/documents/delete",
        "documents:write",
        json=lambda place: {"ids": [place["document_id"]]},
        named={"document_id": lambda _, key: {"ids": [key]}},
    ),
    Row("GET", f"{_BASE}/documents/<document_id>", "documents:read"),
    Row("PUT", f"{_BASE}/documents/<document_id>", "documents:write", json=_text),
    Row("DELETE", f"{_BASE}/documents/<document_id>", "documents:write"),
    Row("POST", f"{_BASE}/documents/<document_id>/erase", "documents:write", 202),
    Row("GET", f"{_BASE}/erasures", "documents:read"),
    Row("GET", f"{_BASE}/erasures/<erasure_id>", "documents:read"),
    Row("GET", "/api/jobs", "jobs:read", needs=("job_id",)),
    Row("GET", "/api/jobs/<job_id>", "jobs:read"),
    Row("GET", "/api/jobs/<job_id>/items", "jobs:read"),
    Row("POST", "/api/jobs/<job_id>/cancel", "jobs:write"),
    Row("POST", "/api/jobs/<job_id>/retry", "jobs:write"),
    Row("POST", "/api/jobs/run", "jobs:run"),
    Row("GET", f"{_BASE}/documents/<document_id>/chunks", "documents:read"),
    Row("GET", f"{_BASE}/documents/<document_id>/original", "documents:read"),
    Row("POST", f"{_BASE}/chunks", "documents:write", json=_chunks),
    Row("GET", f"{_BASE}/chunks/<chunk_id>", "documents:read"),
    Row(
        "POST",
        f"{_BASE}/chunks/delete",
        "documents:write",
        json=lambda place: {"ids": [place["chunk_id"]]},
        named={"chunk_id": lambda _, key: {"ids": [key]}},
    ),
    Row("POST", f"{_BASE}/verify", "knowledge-bases:write", json=_said({})),
    Row("POST", f"{_BASE}/evaluate", "evaluations:write", json=_evaluate),
    Row("GET", f"{_BASE}/evaluations", "evaluations:read", needs=("evaluation_id",)),
    Row("GET", f"{_BASE}/evaluations/<evaluation_id>", "evaluations:read"),
    Row("DELETE", f"{_BASE}/evaluations/<evaluation_id>", "evaluations:write", 204),
    Row("POST", f"{_BASE}/questions", "evaluations:write", 201, _expecting),
    Row("GET", f"{_BASE}/questions", "evaluations:read", needs=("question_id",)),
    Row("GET", f"{_BASE}/questions/<question_id>", "evaluations:read"),
    Row("PATCH", f"{_BASE}/questions/<question_id>", "evaluations:write", json=_said({"note": "other"})),
    Row("DELETE", f"{_BASE}/questions/<question_id>", "evaluations:write", 204),
    Row("POST", f"{_BASE}/search", "search:query", json=_search, named={"document_id": _filtered}),
    Row(
        "POST",
        "/api/faqs",
        "faqs:write",
        201,
        _faq,
        named={"knowledge_base_id": lambda place, key: {"knowledge_base_id": key, **_question(place)}},
    ),
    Row("GET", "/api/faqs", "faqs:read", asks=("knowledge_base_id",)),
    Row("GET", "/api/faqs/<faq_id>", "faqs:read"),
    Row("PATCH", "/api/faqs/<faq_id>", "faqs:write", json=_said({"priority": 2})),
    Row("DELETE", "/api/faqs/<faq_id>", "faqs:write"),
    Row(
        "POST",
        "/api/faqs/delete",
        "faqs:write",
        json=lambda place: {"knowledge_base_id": place["knowledge_base_id"], "ids": [place["faq_id"]]},
        named={
            "faq_id": lambda place, key: {"knowledge_base_id": place["knowledge_base_id"], "ids": [key]},
            "knowledge_base_id": lambda _, key: {"knowledge_base_id": key, "ids": [new_id()]},
        },
    ),
    Row(
        "POST",
        "/api/faqs/import",
        "faqs:write",
        json=lambda place: {"knowledge_base_id": place["knowledge_base_id"], "items": [_question(place)]},
        named={"knowledge_base_id": lambda place, key: {"knowledge_base_id": key, "items": [_question(place)]}},
    ),
    Row(
        "POST",
        "/api/rag/query",
        "rag:query",
        json=_asked,
        named={
            "knowledge_base_id": lambda place, key: {**_asked(place), "knowledge_base_ids": [key]},
            "agent_id": lambda _, key: {"question": "What is it about?", "agent_id": key},
        },
    ),
    Row(
        "POST",
        "/api/responses",
        "responses:create",
        json=_said({"messages": [{"role": "user", "content": "When is it?"}], "context": ["It is at dusk."]}),
        named={"knowledge_base_id": lambda _, key: {"messages": [{"role": "user", "content": "When?"}], "knowledge_base_ids": [key]}},
    ),
    Row("GET", "/api/responses/models", "responses:create"),
    Row("GET", "/api/rag/queries", "rag-queries:read", needs=("query_id",)),
    Row("GET", "/api/rag/queries/<query_id>", "rag-queries:read"),
    Row("DELETE", "/api/rag/queries/<query_id>", "rag-queries:write", 204),
    Row("POST", "/api/rag/queries/<query_id>/replay", "rag:query", json=_said({})),
    Row("GET", "/api/faqs/export", "faqs:read", asks=("knowledge_base_id",)),
    Row("GET", "/api/faqs/export.csv", "faqs:read", asks=("knowledge_base_id",)),
    Row("POST", "/api/embeddings", "embeddings:create", json=_said({"texts": ["one"]})),
    Row("GET", "/api/embeddings/models", "embeddings:create"),
    Row("GET", "/api/embeddings/cache", "embeddings:create"),
    Row("POST", "/api/embeddings/cache/warm", "cache:operate", 202),
    Row("POST", "/api/embeddings/cache/flush", "cache:operate", json=_said({"kind": "result"})),
)

ROWS: Final = (*PROBES, *AUTHENTICATION, *AGENTS, *KNOWLEDGE)
