"""What uploads meet in a knowledge base: the same content, which is not taken twice, or an older content of the same source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agenthub.repositories.knowledge.documents import Document, DocumentRepository, content_key
from agenthub.repositories.knowledge.jobs import JobItem
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase


@dataclass(frozen=True, slots=True)
class Match:
    """`same` has the content already; `stale` is the document of the source, with another content."""

    same: Document | None = None
    stale: Document | None = None


NO_MATCH = Match()


def source_of(item: JobItem) -> str | None:
    """Where the client has what the item is made of."""
    source = item.spec.get("source")
    return str(source) if source is not None else None


def chunking_of(item: JobItem) -> Mapping[str, Any] | None:
    """How the item is to be cut, where not as its knowledge base says."""
    chunking: Mapping[str, Any] | None = item.spec.get("chunking")
    return chunking


def by_id(item: JobItem) -> bool:
    """Whether the item is to replace the document of an id, whatever others there are."""
    return item.action == "replace" and source_of(item) is None


class Matching:
    """Looks up what is there already."""

    def __init__(self, documents: DocumentRepository, base: KnowledgeBase) -> None:
        self._documents = documents
        self._base = base

    def of_items(self, items: Sequence[JobItem]) -> dict[str, Match]:
        """What each item meets, by its id; at most 1,000 items, whose bytes are known."""
        keys = {item.id: _key(item) for item in items if not by_id(item)}
        same = self._documents.of_contents(self._base.tenant_id, self._base.id, list(keys.values()))
        sources = {item.id: source for item in items if item.id in keys and (source := source_of(item))}
        of_source = self._documents.of_sources(self._base.tenant_id, self._base.id, list(sources.values()))
        return {key: _match(same.get(content), of_source.get(sources.get(key, ""))) for key, content in keys.items()}

    def overtaken(self, documents: Sequence[Document]) -> set[str]:
        """The ids of those that can't be put in: another document, also one of these before it, has their content or their source."""
        tenant_id, base_id = self._base.tenant_id, self._base.id
        same = self._documents.of_contents(tenant_id, base_id, [one.content_key for one in documents if one.content_key])
        of_source = self._documents.of_sources(tenant_id, base_id, [one.source for one in documents if one.source])
        seen: Counter[str] = Counter()
        taken: set[str] = set()
        for one in documents:
            others = [found for found in (same.get(one.content_key or ""), of_source.get(one.source or "")) if found]
            keys = {f"content {one.content_key}"} if one.content_key else set()
            keys |= {f"source {one.source}"} if one.source else set()
            if any(found.id != one.id for found in others) or any(seen[key] for key in keys):
                taken.add(one.id)
            else:
                seen.update(keys)
        return taken


def _key(item: JobItem) -> str:
    return content_key(item.original_sha256, item.filename, item.title, item.metadata, chunking_of(item))


def _match(same: Document | None, of_source: Document | None) -> Match:
    stale = None if of_source is None or (same is not None and same.id == of_source.id) else of_source
    return Match(same, stale)
