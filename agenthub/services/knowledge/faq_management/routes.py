"""HTTP routes of FAQs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from flask import Blueprint, Response

from agenthub.core.errors import InvalidInput
from agenthub.repositories.base import Page, all_of, equal_if
from agenthub.repositories.knowledge.documents import Document
from agenthub.repositories.knowledge.faqs import FaqRepository, question_key
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.services.knowledge.faq_management.logic import Deleted, Faqs, Put
from agenthub.services.knowledge.faq_management.schemas import (
    FaqCreate,
    FaqExportQuery,
    FaqIds,
    FaqImport,
    FaqImportForm,
    FaqListQuery,
    FaqOut,
    FaqsDeleted,
    FaqsImported,
    FaqUpdate,
)
from agenthub.services.knowledge.faq_management.tables import csv_pieces, json_pieces, read_file
from agenthub.web.access import operation, principal, repository, resources
from agenthub.web.answers import Answer
from agenthub.web.declare import accepts, accepts_files, refuses, requires, returns, serves, takes
from agenthub.web.reading import UploadedFile
from agenthub.web.schema import ListOf

bp = Blueprint("faqs", __name__)
BLUEPRINTS: Final = (("/api/faqs", bp),)

_GENERATION: Final = "X-KB-Generation"
_HEADERS: Final = {_GENERATION: "the generation this write made"}


def _faqs(knowledge_base_id: str) -> Faqs:
    return Faqs(resources(), operation(), principal().tenant_id, knowledge_base_id)


def _shown(document: Document) -> FaqOut:
    values = {name: getattr(document, name) for name in FaqOut.model_fields if name != "question"}
    return FaqOut(question=document.title, **values)


def _get(faq_id: str) -> Document:
    """The FAQ, of a knowledge base that is not deleted."""
    tenant_id = principal().tenant_id
    document = repository(FaqRepository).get_faq(tenant_id, faq_id)
    repository(KnowledgeBaseRepository).get(tenant_id, document.knowledge_base_id)
    return document


@bp.post("")
@requires("faqs:write")
@accepts(FaqCreate)
@returns(FaqOut, status=201, headers=_HEADERS)
@refuses("already_exists", "volume_full", "model_mismatch", "rate_limited")
def create_faq(body: FaqCreate) -> object:
    """Add a question with its answer; it is searchable when this is answered."""

    def answer(put: Put) -> Answer:
        return Answer(_shown(put.documents[0]), 201, {_GENERATION: str(put.generation)})

    return _faqs(body.knowledge_base_id).put([body.text()], principal().user_id, "refuse", answer, "question")


@bp.get("")
@requires("faqs:read")
@takes(FaqListQuery)
@returns(ListOf[FaqOut])
@refuses("not_found", "not_retained")
def list_faqs(query: FaqListQuery) -> Page[FaqOut]:
    """A knowledge base's FAQs, newest first; with `generation`, as they were then."""
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, query.knowledge_base_id)
    page = _page(base, query)
    return Page(tuple(_shown(document) for document in page.items), page.next_cursor)


def _page(base: KnowledgeBase, query: FaqListQuery) -> Page[Document]:
    key = question_key(query.question) if query.question is not None else None
    where = all_of(equal_if("kind", "faq"), equal_if("category", query.category), equal_if("question_key", key))
    if query.generation is not None:
        history = History(resources().storage)
        return history.documents(history.at(base, query.generation), where=where, limit=query.limit, cursor=query.cursor)
    return repository(FaqRepository).page_in(base.tenant_id, base.id, where=where, limit=query.limit, cursor=query.cursor)


@bp.get("/<faq_id>")
@requires("faqs:read")
@returns(FaqOut)
def get_faq(faq_id: str) -> FaqOut:
    """One FAQ."""
    return _shown(_get(faq_id))


@bp.patch("/<faq_id>")
@requires("faqs:write")
@accepts(FaqUpdate)
@returns(FaqOut, headers=_HEADERS)
@refuses("already_exists", "version_conflict", "volume_full", "model_mismatch", "rate_limited")
def update_faq(faq_id: str, body: FaqUpdate) -> object:
    """Change a FAQ: searches find the old or the new one, never both and never none."""
    changes = body.model_dump(exclude_unset=True, exclude={"expected_version"})
    for name in ("question", "answer", "priority", "metadata"):
        if name in changes and changes[name] is None:
            raise InvalidInput("can be left out, but not null", field=name)
    found = _get(faq_id)

    def answer(put: Put) -> Answer:
        document = put.documents[0] if put.documents else found
        return Answer(_shown(document), 200, {_GENERATION: str(put.generation)})

    return _faqs(found.knowledge_base_id).update(faq_id, changes, body.expected_version, answer)


@bp.delete("/<faq_id>")
@requires("faqs:write")
@returns(FaqsDeleted, headers=_HEADERS)
def delete_faq(faq_id: str) -> object:
    """Delete a FAQ: no search finds it any more, on any replica."""
    return _faqs(_get(faq_id).knowledge_base_id).delete([faq_id], _gone)


@bp.post("/delete")
@requires("faqs:write")
@accepts(FaqIds)
@returns(FaqsDeleted, headers=_HEADERS)
def delete_faqs(body: FaqIds) -> object:
    """Delete many FAQs of a knowledge base in one commit; ids that are not there are reported."""
    return _faqs(body.knowledge_base_id).delete(body.ids, _gone)


def _gone(deleted: Deleted) -> Answer:
    return Answer(deleted, 200, {_GENERATION: str(deleted.generation)})


@bp.post("/import")
@requires("faqs:write")
@accepts_files(FaqImportForm, json=FaqImport, max_files=1)
@returns(FaqsImported, headers=_HEADERS)
@refuses("malformed_input", "already_exists", "volume_full", "model_mismatch", "rate_limited")
def import_faqs(body: FaqImport | FaqImportForm, files: Sequence[UploadedFile]) -> object:
    """Import up to 1,000 FAQs in one commit: a JSON body, or a CSV or JSON file as an export made it."""
    if not isinstance(body, FaqImport) and not files:
        raise InvalidInput("send a file, or a JSON body with items", field="files")
    items = body.items if isinstance(body, FaqImport) else read_file(files[0])
    texts = [item.text() for item in items]

    def answer(put: Put) -> Answer:
        return Answer(put, 200, {_GENERATION: str(put.generation)})

    return _faqs(body.knowledge_base_id).put(texts, principal().user_id, body.on_conflict, answer, "items[{}].question")


@bp.get("/export")
@requires("faqs:read")
@takes(FaqExportQuery)
@serves("application/json", "the FAQs, in the form an import takes")
@refuses("not_found", "not_retained")
def export_faqs(query: FaqExportQuery) -> Response:
    """All FAQs of a knowledge base as JSON, from one generation."""
    return _exported(query, json_pieces, "application/json", "json")


@bp.get("/export.csv")
@requires("faqs:read")
@takes(FaqExportQuery)
@serves("text/csv", "the FAQs, a line each, in the form an import takes")
@refuses("not_found", "not_retained")
def export_faqs_as_csv(query: FaqExportQuery) -> Response:
    """All FAQs of a knowledge base as CSV, from one generation."""
    return _exported(query, csv_pieces, "text/csv; charset=utf-8", "csv")


def _exported(query: FaqExportQuery, pieces: Callable[[Iterable[Document]], Iterator[bytes]], content_type: str, ending: str) -> Response:
    history = History(resources().storage)
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, query.knowledge_base_id)
    old = base if query.generation is None else history.at(base, query.generation)
    response = Response(pieces(_every(history, old, query.category)), content_type=content_type)
    response.headers["Content-Disposition"] = f'attachment; filename="faqs-{old.id}-{old.generation}.{ending}"'
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers[_GENERATION] = str(old.generation)
    return response


def _every(history: History, base: KnowledgeBase, category: str | None) -> Iterator[Document]:
    where = all_of(equal_if("kind", "faq"), equal_if("category", category))
    cursor: str | None = None
    while True:
        page = history.documents(base, where=where, limit=500, cursor=cursor)
        yield from page.items
        if page.next_cursor is None:
            return
        cursor = page.next_cursor
