"""FAQs into and out of a knowledge base: rows and chunks change in the one commit of a generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from agenthub.core.errors import AlreadyExists, GenerationConflict, InvalidInput, ModelMoved, NotFound, VersionConflict
from agenthub.core.types import TenantId
from agenthub.repositories.knowledge.commits import Burial, Effect, KnowledgeCommits, Plan
from agenthub.repositories.knowledge.documents import Document
from agenthub.repositories.knowledge.faqs import FaqRepository, FaqText, faq_document
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.models import pinned_embedder
from agenthub.repositories.knowledge.removing import removing
from agenthub.repositories.operations import Operation
from agenthub.resources import Resources
from agenthub.services.knowledge.faq_management.schemas import OnConflict

_TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Put:
    """What became of FAQs that were written: `documents` as they are now, new ones and replaced ones."""

    generation: int
    documents: tuple[Document, ...]
    created: int
    replaced: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete did: gone from `generation` on."""

    generation: int
    deleted: tuple[str, ...]
    missing: tuple[str, ...]


PutAnswer = Callable[[Put], object]
DeletedAnswer = Callable[[Deleted], object]


class _Moved(Exception):
    """FAQs changed between reading them and the commit: the chunks that were written belong to others now."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A FAQ to write: in the place of `before`, or a new one."""

    faq: FaqText
    after: Document
    before: Document | None


class Faqs:
    """The FAQs of one knowledge base, for one request."""

    def __init__(self, resources: Resources, operation: Operation, tenant_id: TenantId, knowledge_base_id: str) -> None:
        self._resources = resources
        self._operation = operation
        self._rows = FaqRepository(resources.storage, operation)
        self._commits = KnowledgeCommits(resources.storage, resources.knowledge, operation)
        self.base: KnowledgeBase = KnowledgeBaseRepository(resources.storage).get(tenant_id, knowledge_base_id)

    # --- writing ---

    def put(self, faqs: Sequence[FaqText], creator: str, on_conflict: OnConflict, answer: PutAnswer, field: str) -> object:
        """Write FAQs in one commit; nothing is committed when all of them say what is there already.

        Raises: InvalidInput, naming `field`, for a question that comes twice; AlreadyExists where it is there and shall not be;
        Conflict where the knowledge base has no model; RateLimited while merging has to catch up.
        """
        places = _places(faqs, field)

        def changes() -> list[_Change]:
            known = self._rows.asking(self.base.tenant_id, self.base.id, list(places))
            if known and on_conflict == "refuse":
                place = min(places[key] for key in known)
                raise AlreadyExists("faqs", ["question"], field=field.format(place))
            return self._changes([faq for faq in faqs if on_conflict != "skip" or faq.key not in known], known, creator)

        return self._repeated(changes, answer, len(faqs))

    def update(self, faq_id: str, changed: Mapping[str, Any], expected_version: int | None, answer: PutAnswer) -> object:
        """Change a FAQ.

        Raises: NotFound; VersionConflict when it is at another version; AlreadyExists when another one asks the same question.
        """

        def changes() -> list[_Change]:
            before = self._rows.get_faq(self.base.tenant_id, faq_id)
            if expected_version not in (None, before.version):
                raise VersionConflict("the FAQ changed since you read it", field="expected_version")
            faq = replace(FaqText.of(before), **changed)
            others = self._rows.asking(self.base.tenant_id, self.base.id, [faq.key])
            if any(other.id != faq_id for other in others.values()):
                raise AlreadyExists("faqs", ["question"], field="question")
            return self._changes([faq], {faq.key: before}, before.created_by)

        return self._repeated(changes, answer, 1)

    def _changes(self, faqs: Sequence[FaqText], known: Mapping[str, Document], creator: str) -> list[_Change]:
        now = self._rows.now()
        found = []
        for faq in faqs:
            before, after = known.get(faq.key), faq_document(self.base, faq, creator, now)
            if before is None or before.sha256 != after.sha256:
                found.append(_Change(faq, replace(after, id=before.id) if before else after, before))
        return found

    def _repeated(self, changes: Callable[[], list[_Change]], answer: PutAnswer, count: int) -> object:
        """Write what `changes` finds to be done, again from the start when others moved it."""
        for _ in range(_TRIES):
            todo = changes()
            if not todo:
                return self._unchanged(answer, count)
            try:
                return self._write(todo, count - len(todo), answer)
            except _Moved:
                continue
            except ModelMoved:
                self.base = KnowledgeBaseRepository(self._resources.storage).get(self.base.tenant_id, self.base.id)
        raise GenerationConflict("these FAQs are being changed by others; try again", retry_after_seconds=1)

    def _unchanged(self, answer: PutAnswer, count: int) -> object:
        base = KnowledgeBaseRepository(self._resources.storage).get(self.base.tenant_id, self.base.id)
        return answer(Put(base.generation, (), 0, 0, count))

    def _write(self, changes: Sequence[_Change], unchanged: int, answer: PutAnswer) -> object:
        chunks = [change.faq.chunk(change.after.id) for change in changes]
        vectors = pinned_embedder(self._resources.embedders, self.base).embed([chunk.searched_text for chunk in chunks])
        self._resources.upkeep.admit(self.base)
        with self._commits.staging(self.base) as staging:
            staging.write_segment(chunks, vectors)
            answered: object = staging.publish(self._plan(changes, unchanged, answer))
        self._resources.upkeep.notice(self.base.id)
        return answered

    def _plan(self, changes: Sequence[_Change], unchanged: int, answer: PutAnswer) -> Plan:
        replaced = [change for change in changes if change.before is not None]

        def plan(_base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            self._check_unmoved(changes)
            stamped = [_stamped(change, generation, now) for change in changes]
            put = Put(generation, tuple(stamped), len(changes) - len(replaced), len(replaced), unchanged)
            return Effect(
                answer(put),
                "replace" if replaced else "add",
                burials=tuple(Burial("document", change.after.id) for change in replaced),
                writes=tuple(self._rows.written([(change.before, after) for change, after in zip(changes, stamped, strict=True)], now)),
                documents_delta=put.created,
                chunks_delta=put.created,
                size_delta_bytes=sum(c.after.size_bytes - (c.before.size_bytes if c.before else 0) for c in changes),
                details={"faqs": len(changes)},
            )

        return plan

    def _check_unmoved(self, changes: Sequence[_Change]) -> None:
        """The commit is one compare-and-set of the generation, so what holds here holds until it is done.

        Raises: _Moved when a FAQ to be replaced is another one now, or a new one's question was taken.
        """
        keys = {change.faq.key: change for change in changes}
        asking = self._rows.asking(self.base.tenant_id, self.base.id, list(keys))
        befores = [change.before for change in changes if change.before is not None]
        rows = self._rows.get_many(self.base.tenant_id, [before.id for before in befores]) if befores else {}
        if any(rows.get(before.id) != before for before in befores):
            raise _Moved
        if any(found.id != keys[key].after.id for key, found in asking.items()):
            raise _Moved

    # --- deleting ---

    def delete(self, ids: Sequence[str], answer: DeletedAnswer) -> object:
        """Hide FAQs at once and everywhere; needs no space on the volume.

        Raises: NotFound when none of them exists.
        """
        wanted = list(dict.fromkeys(ids))
        return self._commits.publish(self.base, (), self._deletion(wanted, answer))

    def _deletion(self, wanted: Sequence[str], answer: DeletedAnswer) -> Plan:
        def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            known = self._rows.get_many(base.tenant_id, wanted)
            present = [d for d in known.values() if d.kind == "faq" and d.knowledge_base_id == base.id]
            if not present:
                raise NotFound("no FAQ with this id" if len(wanted) == 1 else "no FAQ with any of these ids")
            found = {document.id for document in present}
            deleted = Deleted(generation, tuple(k for k in wanted if k in found), tuple(k for k in wanted if k not in found))
            return removing(self._rows, present, generation, now, answer(deleted), {"faqs": len(present)})

        return plan


def _places(faqs: Sequence[FaqText], field: str) -> dict[str, int]:
    """Each question's place.

    Raises: InvalidInput for one that comes twice.
    """
    places: dict[str, int] = {}
    for place, faq in enumerate(faqs):
        if faq.key in places:
            raise InvalidInput(f"asks the same as item {places[faq.key]}", field=field.format(place))
        places[faq.key] = place
    return places


def _stamped(change: _Change, generation: int, now: datetime) -> Document:
    if change.before is None:
        return replace(change.after, generation=generation, created_at=now, updated_at=now)
    before = change.before
    return replace(
        change.after,
        created_by=before.created_by,
        created_at=before.created_at,
        updated_at=now,
        generation=generation,
        revision=before.revision + 1,
        version=before.version + 1,
    )
