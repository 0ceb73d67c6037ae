"""HTTP routes of generations: list, compare, restore, undo, and named snapshots."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.repositories.base import Page
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import Pin
from agenthub.repositories.knowledge.pins import SnapshotRepository
from agenthub.repositories.knowledge.restoring import Restored, Restores
from agenthub.services.knowledge.knowledge_base import time_logic
from agenthub.services.knowledge.knowledge_base.time_schemas import (
    ChangeOut,
    DifferenceOut,
    GenerationOut,
    Restore,
    RestoredOut,
    SnapshotCreate,
    SnapshotOut,
)
from agenthub.web.access import operation, principal, repository, resources
from agenthub.web.answers import Answer
from agenthub.web.declare import accepts, refuses, requires, returns, takes
from agenthub.web.schema import ListOf, PageQuery

bp = Blueprint("generations", __name__)
_GENERATION: Final = "X-KB-Generation"
_HEADERS: Final = {_GENERATION: "the generation this write made"}


def _base(knowledge_base_id: str) -> KnowledgeBase:
    return repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)


@bp.get("/<knowledge_base_id>/generations")
@requires("knowledge-bases:read")
@takes(PageQuery)
@returns(ListOf[ChangeOut])
def list_generations(knowledge_base_id: str, query: PageQuery) -> Page[ChangeOut]:
    """What changed this knowledge base, newest first: by whom, what, and the counts after it."""
    return time_logic.list_changes(resources(), _base(knowledge_base_id), query.limit, query.cursor)


@bp.get("/<knowledge_base_id>/generations/<int:generation>")
@requires("knowledge-bases:read")
@returns(GenerationOut)
@refuses("not_retained")
def get_generation(knowledge_base_id: str, generation: int) -> GenerationOut:
    """One generation and what made it."""
    return time_logic.describe_generation(resources(), _base(knowledge_base_id), generation)


@bp.get("/<knowledge_base_id>/generations/<int:first>/diff/<int:last>")
@requires("documents:read")
@returns(DifferenceOut)
@refuses("not_retained")
def compare_generations(knowledge_base_id: str, first: int, last: int) -> DifferenceOut:
    """Which documents were added, removed and replaced from one generation to another."""
    return time_logic.difference(resources(), _base(knowledge_base_id), first, last)


@bp.post("/<knowledge_base_id>/restore")
@requires("documents:write")
@accepts(Restore)
@returns(RestoredOut, headers=_HEADERS)
@refuses("not_retained", "conflict", "volume_full")
def restore_generation(knowledge_base_id: str, body: Restore) -> object:
    """Go back: a new generation with the contents of an old one. Nothing is lost: what came after can be restored as well."""
    return Restores(resources().storage, resources().knowledge, operation()).restore(_base(knowledge_base_id), body.generation, _answer)


@bp.post("/<knowledge_base_id>/undo")
@requires("documents:write")
@returns(RestoredOut, headers=_HEADERS)
@refuses("not_retained", "conflict", "volume_full")
def undo_newest_change(knowledge_base_id: str) -> object:
    """Undo the newest change: restore the generation before it. Undoing that again is a redo."""
    return Restores(resources().storage, resources().knowledge, operation()).undo(_base(knowledge_base_id), _answer)


def _answer(restored: Restored) -> Answer:
    return Answer(restored, 200, {_GENERATION: str(restored.generation)})


@bp.post("/<knowledge_base_id>/snapshots")
@requires("knowledge-bases:write")
@accepts(SnapshotCreate)
@returns(SnapshotOut, status=201)
@refuses("not_retained")
def create_snapshot(knowledge_base_id: str, body: SnapshotCreate) -> Pin:
    """Give a generation a name; it is then kept however old it gets."""
    caller = principal()
    return time_logic.name_generation(resources(), operation(), caller.tenant_id, knowledge_base_id, body, caller.user_id)


@bp.get("/<knowledge_base_id>/snapshots")
@requires("knowledge-bases:read")
@takes(PageQuery)
@returns(ListOf[SnapshotOut])
def list_snapshots(knowledge_base_id: str, query: PageQuery) -> Page[Pin]:
    """The named snapshots, newest first."""
    return repository(SnapshotRepository).page_in(_base(knowledge_base_id), limit=query.limit, cursor=query.cursor)


@bp.get("/<knowledge_base_id>/snapshots/<snapshot_id>")
@requires("knowledge-bases:read")
@returns(SnapshotOut)
def get_snapshot(knowledge_base_id: str, snapshot_id: str) -> Pin:
    """One named snapshot."""
    return repository(SnapshotRepository).get_in(_base(knowledge_base_id), snapshot_id)


@bp.delete("/<knowledge_base_id>/snapshots/<snapshot_id>")
@requires("knowledge-bases:write")
@returns(None, status=204)
def delete_snapshot(knowledge_base_id: str, snapshot_id: str) -> None:
    """Remove a named snapshot; its generation is then kept as long as any other."""
    repository(SnapshotRepository).delete(_base(knowledge_base_id), snapshot_id)
