"""Which services there are, as strings: a process imports only those it was told to serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal

from agenthub.core.errors import SettingsError

if TYPE_CHECKING:
    from flask import Blueprint

Need = Literal["storage", "cache", "knowledge", "embedders", "llm"]


@dataclass(frozen=True, slots=True)
class Service:
    """One deployable service. `target` is `module:NAME` of its tuple of (prefix, blueprint) pairs; `needs` what it uses."""

    name: str
    target: str
    prefixes: tuple[str, ...]
    needs: frozenset[Need]
    title: str
    description: str


def _service(name: str, prefixes: tuple[str, ...], needs: tuple[Need, ...], title: str, description: str) -> Service:
    module = name.replace("-", "_")
    return Service(
        name, f"agenthub.services.{module}.routes:BLUEPRINTS", prefixes, frozenset({"storage", "cache", *needs}), title, description
    )


SERVICES: Final = (
    _service(
        "platform.authentication",
        ("/api/auth", "/api/users", "/api/organizations", "/api/api-keys"),
        (),
        "Authentication",
        "Signing in, sessions, users and roles, organizations, API keys.",
    ),
    _service(
        "agents.agent-management",
        ("/api/agents",),
        (),
        "Agents",
        "Agents with immutable published versions, rollback, status and bound knowledge bases.",
    ),
    _service(
        "knowledge.knowledge-base",
        ("/api/knowledge-bases",),
        ("cache", "knowledge", "embedders"),
        "Knowledge bases",
        "Collections of documents with a pinned embedding model; every change makes a new generation.",
    ),
    _service(
        "knowledge.document-processing",
        ("/api/knowledge-bases/{id}/documents", "/api/knowledge-bases/{id}/chunks", "/api/jobs"),
        ("cache", "knowledge", "embedders"),
        "Documents",
        "Upload, preview, download, replace and delete documents and chunks; the jobs that read and embed what was uploaded.",
    ),
    _service(
        "knowledge.embedding-generation",
        ("/api/embeddings",),
        ("cache", "embedders"),
        "Embeddings",
        "Vectors for texts, through the embedding cache.",
    ),
    _service(
        "knowledge.similarity-search",
        ("/api/knowledge-bases/{id}/search",),
        ("cache", "knowledge", "embedders"),
        "Search",
        "Semantic, keyword and hybrid search with filters, one query or many, text or vectors.",
    ),
    _service(
        "knowledge.faq-management",
        ("/api/faqs",),
        ("cache", "knowledge", "embedders"),
        "FAQs",
        "Questions with answers, searchable in their knowledge base at once; bulk import and export.",
    ),
    _service(
        "knowledge.rag-query",
        ("/api/rag/query", "/api/rag/queries"),
        ("cache", "knowledge", "embedders", "llm"),
        "Questions",
        "Questions answered from knowledge bases with citations; their history and replays.",
    ),
    _service(
        "platform.response-generation",
        ("/api/responses",),
        ("cache", "knowledge", "embedders", "llm"),
        "Responses",
        "Chat completions through an OpenAI-compatible endpoint; answers from texts and knowledge bases also without one.",
    ),
    _service(
        "platform.logging",
        ("/api/logs",),
        (),
        "Audit log",
        "Who did what to which resource, append-only.",
    ),
    _service(
        "platform.database-operations",
        ("/api/database",),
        (),
        "Database",
        "How far the warehouse is behind, and a scheduler's push for the export.",
    ),
    _service(
        "analytics.analytics-calculation",
        ("/api/analytics",),
        (),
        "Analytics",
        "Figures over uses, messages, metrics, jobs, audit events and sign-ins, by day, by whom and by what.",
    ),
    _service(
        "platform.system-health",
        ("/api/health",),
        (),
        "Health",
        "What this process runs on, and each dependency with its facts.",
    ),
)
"""In the order of the OpenAPI document."""


def services_for(patterns: Sequence[str]) -> tuple[Service, ...]:
    """The services that any pattern names, such as `knowledge.*` or `platform.authentication`.

    Raises: SettingsError when a pattern names none.
    """
    names = [service.name for service in SERVICES]
    problems = [
        f"AGENTHUB_SERVICES: {pattern!r} names no service; there are {', '.join(names)}"
        for pattern in patterns
        if not any(fnmatchcase(name, pattern) for name in names)
    ]
    if problems:
        raise SettingsError(problems)
    return tuple(service for service in SERVICES if any(fnmatchcase(service.name, pattern) for pattern in patterns))


def needs_of(services: Sequence[Service]) -> frozenset[Need]:
    """What a process of these services opens."""
    return frozenset(need for service in services for need in service.needs)


def load(service: Service) -> tuple[tuple[str, Blueprint], ...]:
    """Import a service and return its (prefix, blueprint) pairs."""
    module, _, name = service.target.partition(":")
    blueprints: tuple[tuple[str, Blueprint], ...] = getattr(import_module(module), name)
    return blueprints
