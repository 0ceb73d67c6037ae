"""The history of questions, saved questions, evaluations and FAQs' rows, on every storage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from agenthub.core.errors import NotFound
from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT, DocumentId, KnowledgeBaseId, TenantId
from agenthub.repositories.base import all_of, equal_if
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY, DocumentRepository
from agenthub.repositories.knowledge.evaluations import Evaluation, EvaluationRepository, QuestionRepository, SavedQuestion
from agenthub.repositories.knowledge.faqs import FaqRepository, FaqText, faq_document, question_key
from agenthub.repositories.knowledge.rag_queries import RagQuery, RagQueryRepository
from agenthub.repositories.operations import APPLIED_OPERATIONS, AUDIT_EVENTS
from agenthub.storage.configuration import parse_storage_url
from agenthub.storage.contract import Storage
from agenthub.storage.open import open_storage
from agenthub.storage.schema import create_tables

TABLES = (
    APPLIED_OPERATIONS,
    AUDIT_EVENTS,
    RagQueryRepository.table,
    QuestionRepository.table,
    EvaluationRepository.table,
    DocumentRepository.table,
    DOCUMENT_HISTORY,
)

SERVERS = {"postgresql": "postgresql_database", "bigquery": "bigquery_url"}


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql", "bigquery"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    folder: Path = tmp_path_factory.mktemp("rag")
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/rag.sqlite3"}
    url = urls.get(request.param) or str(request.getfixturevalue(SERVERS[request.param]))
    opened = open_storage(parse_storage_url(url), Flask("rag"))
    create_tables(opened, TABLES)
    yield opened
    opened.close()


def query_of(storage: Storage, tenant_id: TenantId, document_id: str = "d", life: timedelta = timedelta(days=1), **more: Any) -> RagQuery:
    now = storage.now()
    values: dict[str, Any] = {
        "id": new_id(),
        "tenant_id": tenant_id,
        "question": "When? 灯台",
        "answer": "At dusk [1].",
        "kind": "generated",
        "confidence": 0.75,
        "model": "small",
        "finish_reason": "stop",
        "prompt_tokens": 11,
        "completion_tokens": None,
        "seconds": 0.5,
        "agent_id": None,
        "knowledge_base_ids": (new_id(),),
        "generations": {"kb": 3},
        "options": {"top_k": 8, "filter": None},
        "sources": [{"document_id": document_id, "chunk_id": "c", "score": 0.5}],
        "citations": [{"document_id": document_id, "quote": "At dusk."}],
        "created_by": "u",
        "created_at": now,
        "expires_at": now + life,
    }
    return RagQuery(**values | more)


def test_a_question_comes_back_as_it_was_kept(storage: Storage) -> None:
    queries, tenant = RagQueryRepository(storage), TenantId(new_id())
    kept = queries.add(query_of(storage, tenant))
    assert queries.get(tenant, kept.id) == kept
    with pytest.raises(NotFound):
        queries.get(TenantId(new_id()), kept.id)
    unanswered = queries.add(query_of(storage, tenant, kind="none", agent_id="a"))
    where = all_of(equal_if("kind", "none"), queries.unexpired())
    assert [one.id for one in queries.page(tenant, where=where).items] == [unanswered.id]


def test_what_expired_is_found_no_more_and_swept(storage: Storage) -> None:
    queries, tenant = RagQueryRepository(storage), TenantId(new_id())
    old = queries.add(query_of(storage, tenant, life=timedelta(seconds=-1)))
    new = queries.add(query_of(storage, tenant))
    with pytest.raises(NotFound):
        queries.get(tenant, old.id)
    assert [one.id for one in queries.page(tenant, where=queries.unexpired()).items] == [new.id]
    assert queries.count(tenant) == 2
    queries.sweep(EVERY_TENANT)
    assert queries.count(tenant) == 1


def test_an_erased_document_takes_its_answers_along(storage: Storage) -> None:
    queries, tenant, other = RagQueryRepository(storage), TenantId(new_id()), TenantId(new_id())
    for document in ("gone", "stays", "gone"):
        queries.add(query_of(storage, tenant, document))
    queries.add(query_of(storage, other, "gone"))
    assert queries.forget_document(tenant, "gone") == (3, 2)
    assert (queries.count(tenant), queries.count(other)) == (1, 1)


def test_questions_and_evaluations_belong_to_their_knowledge_base(storage: Storage) -> None:
    tenant, base, now = TenantId(new_id()), KnowledgeBaseId(new_id()), storage.now()
    question = SavedQuestion(new_id(), tenant, base, "When?", ("a", "b"), "", "u", now, now)
    questions = QuestionRepository(storage)
    questions.add(question)
    assert questions.get_in(tenant, base, question.id) == question
    with pytest.raises(NotFound):
        questions.get_in(tenant, new_id(), question.id)
    results = [{"question": "When?", "found": ["a"], "ndcg": 0.5}]
    evaluation = Evaluation(new_id(), tenant, base, 3, "signature", {"mode": None}, 10, 1, 0.5, 1.0, 0.25, results, "u", now)
    evaluations = EvaluationRepository(storage)
    evaluations.add_all([evaluation, replace(evaluation, id=new_id())], result=None)
    assert evaluations.get_in(tenant, base, evaluation.id) == evaluation
    assert len(evaluations.page_in(tenant, base, limit=10).items) == 2


class _Base:
    """What a FAQ needs to know of its knowledge base."""

    def __init__(self, tenant_id: TenantId) -> None:
        self.id = KnowledgeBaseId(new_id())
        self.tenant_id = tenant_id


def test_faqs_are_found_by_their_question(storage: Storage) -> None:
    base: Any = _Base(TenantId(new_id()))
    rows = FaqRepository(storage)
    faq = faq_document(base, FaqText("When is it?", "At dusk.", "Sea", 2, {"lang": "en"}), "u", storage.now())
    plain = replace(faq, id=DocumentId(new_id()), kind="document", question_key=None, category=None, priority=None, answer=None)
    storage.commit([rows.insertion(faq), rows.insertion(plain)])
    assert rows.asking(base.tenant_id, base.id, [question_key("when IS it")]) == {faq.question_key: faq}
    assert rows.asking(base.tenant_id, new_id(), [question_key("when IS it")]) == {}
    assert FaqText.of(rows.get_faq(base.tenant_id, faq.id)) == FaqText("When is it?", "At dusk.", "Sea", 2, {"lang": "en"})
    with pytest.raises(NotFound):
        rows.get_faq(base.tenant_id, plain.id)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("When is it?", "  WHEN, is it", True),
        ("Ｗｈｅｎ？", "when", True),
        ("Größe", "GRÖSSE", True),
        ("When is it?", "When was it?", False),
        ("What is C++?", "what is c", False),
        ("What is C#?", "What is C++?", False),
        ("what's up - now", "What s up now", True),
        ("???", "!!!", False),
        ("", "?", False),
        ("कब", "कब?", True),
    ],
)
def test_what_makes_two_questions_the_same(one: str, other: str, same: bool) -> None:
    assert (question_key(one) == question_key(other)) is same
