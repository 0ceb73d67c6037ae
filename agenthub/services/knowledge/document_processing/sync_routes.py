"""HTTP routes of synchronizing: the client says what it has, the answer is what is needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from flask import Blueprint

from agenthub.core.errors import InvalidInput
from agenthub.repositories.knowledge.documents import Document, DocumentRepository, SourceRange, content_key
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.services.knowledge.document_processing.schemas import (
    MAX_ITEMS,
    GoneOut,
    GoneWithin,
    SyncIn,
    SyncItem,
    SyncOut,
    SyncState,
)
from agenthub.web.access import principal, repository
from agenthub.web.declare import accepts, requires, returns

bp = Blueprint("sync", __name__)


@bp.post("/documents/sync")
@requires("documents:read")
@accepts(SyncIn)
@returns(SyncOut)
def compare_documents(knowledge_base_id: str, body: SyncIn) -> SyncOut:
    """Say which of these files have to be uploaded, and which documents have no file any more. Nothing is changed.

    Upload what is needed with its source, then delete what is gone, if that is wanted; to ask again afterwards is cheap and sure.
    """
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    sources = [item.source for item in body.items]
    if len(set(sources)) < len(sources):
        twice = next(index for index, source in enumerate(sources) if source in sources[:index])
        raise InvalidInput("this source was sent twice", field=f"items[{twice}].source")
    gone = _gone(base, frozenset(sources), body.gone_within) if body.gone_within else ()
    return SyncOut(items=_states(base, body.items), gone=tuple(gone[:MAX_ITEMS]), more_gone=len(gone) > MAX_ITEMS)


def _states(base: KnowledgeBase, items: Sequence[SyncItem]) -> tuple[SyncState, ...]:
    documents = repository(DocumentRepository)
    keys = {item.source: content_key(item.sha256, item.source.rpartition("/")[2], None, {}, None) for item in items}
    contents = documents.of_contents(base.tenant_id, base.id, list(keys.values()))
    known = documents.of_sources(base.tenant_id, base.id, list(keys))
    return tuple(_state(item, known.get(item.source), contents.get(keys[item.source])) for item in items)


def _state(item: SyncItem, of_source: Document | None, same: Document | None) -> SyncState:
    """A document of the source decides; where there is none, one that has the content is enough."""
    if of_source is not None:
        whole = of_source.sha256 == item.sha256 and of_source.content_key is not None
        return SyncState(source=item.source, state="unchanged" if whole else "needed", document_id=of_source.id)
    return SyncState(source=item.source, state="unchanged" if same else "needed", document_id=same.id if same else None)


def _gone(base: KnowledgeBase, sources: frozenset[str], within: GoneWithin) -> list[GoneOut]:
    """Documents of the range without a file; one more than are answered, if there are as many."""
    found = repository(DocumentRepository).with_sources(base.tenant_id, base.id, SourceRange(within.prefix, within.after, within.through))
    missing = (document for document in found if document.source not in sources)
    return [
        GoneOut(source=document.source or "", document_id=document.id, sha256=document.sha256)
        for document in islice(missing, MAX_ITEMS + 1)
    ]
