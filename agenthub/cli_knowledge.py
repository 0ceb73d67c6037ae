"""Looking after knowledge bases from a shell: `python -m agenthub.cli kb COMMAND`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import click
from flask import Flask

from agenthub.core.errors import AgentHubError
from agenthub.core.observe import Unobserved
from agenthub.core.types import EVERY_TENANT
from agenthub.registry import Need
from agenthub.repositories.knowledge.inspecting import Inspected, Inspections, Problem
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.repairing import Repairs
from agenthub.resources import Resources, open_resources
from agenthub.settings import Settings
from agenthub.web.logs import configure_logs

DAMAGED: Final = 3
"""Exit status when something that was looked at is not whole; 0 when all is, 1 when the command could not do its work."""


@contextmanager
def opened(*more: Need) -> Iterator[Resources]:
    """The storage and the volume that the environment names, and what else is needed."""
    settings = Settings.from_env(os.environ)
    configure_logs(settings.log)
    resources = open_resources(settings, Flask("agenthub"), Unobserved(), frozenset({"storage", "knowledge", *more}))
    try:
        yield resources
    finally:
        resources.close()


def chosen(resources: Resources, ids: Sequence[str]) -> Iterator[KnowledgeBase]:
    """The knowledge bases of these ids, or every one of every tenant."""
    bases = KnowledgeBaseRepository(resources.storage)
    if ids:
        yield from (bases.get(EVERY_TENANT, key) for key in ids)
        return
    cursor: str | None = None
    while True:
        page = bases.page(EVERY_TENANT, limit=200, cursor=cursor)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return


@click.group("kb")
def kb() -> None:
    """Look after knowledge bases."""


@kb.command("verify")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--repair", is_flag=True, help="Make damaged derived files again; put segments with damaged truth in quarantine.")
@click.option("--fall-back", is_flag=True, help="Where truth is damaged, restore the newest kept generation that is whole. Needs --repair.")
def verify_command(ids: tuple[str, ...], repair: bool, fall_back: bool) -> None:
    """Read every byte of every (or the given) knowledge base and compare it with its hashes.

    Exit status 0: all is whole, or was made so. 3: damage remains. 1: the command could not do its work.
    """
    if fall_back and not repair:
        raise click.UsageError("--fall-back needs --repair")
    with opened() as resources:
        whole = [_verified(resources, base, repair, fall_back) for base in chosen(resources, ids)]
    click.echo(f"{len(whole)} knowledge bases, {whole.count(False)} damaged")
    sys.exit(0 if all(whole) else DAMAGED)


def _verified(resources: Resources, base: KnowledgeBase, repair: bool, fall_back: bool) -> bool:
    """Whether the knowledge base is whole in the end."""
    seen = Inspections(resources.storage, resources.knowledge).inspect(base)
    _say(base, seen)
    if seen.intact or not repair:
        return seen.intact
    _repair(resources, base, seen)
    again = _again(resources, base)
    if fall_back and any(one.kind == "truth" for one in again.damages):
        _fall_back(resources, base)
        again = _again(resources, base)
        if any(one.kind == "derived" for one in again.damages):
            _repair(resources, _latest(resources, base), again)
            again = _again(resources, base)
    return again.intact


def _latest(resources: Resources, base: KnowledgeBase) -> KnowledgeBase:
    return KnowledgeBaseRepository(resources.storage).get(EVERY_TENANT, base.id)


def _again(resources: Resources, base: KnowledgeBase) -> Inspected:
    latest = _latest(resources, base)
    seen = Inspections(resources.storage, resources.knowledge).inspect(latest)
    _say(latest, seen)
    return seen


def _repair(resources: Resources, base: KnowledgeBase, seen: Inspected) -> None:
    if any(one.segment_id is None for one in seen.damages):
        return
    done = Repairs(resources.storage, resources.knowledge).repair(base, seen.damages)
    for segment_id in done.rebuilt:
        click.echo(f"{base.id}: segment {segment_id} was written anew; generation {done.generation}")
    for segment_id in done.quarantined:
        click.echo(f"{base.id}: segment {segment_id} is in quarantine: its truth is damaged")


def _fall_back(resources: Resources, base: KnowledgeBase) -> None:
    repairs = Repairs(resources.storage, resources.knowledge)
    latest = _latest(resources, base)
    try:
        restored = repairs.go_back(latest, repairs.newest_intact(latest))
    except AgentHubError as error:
        click.echo(f"{base.id}: can't fall back: {error.message}", err=True)
        return
    click.echo(f"{base.id}: generation {restored.generation} has the contents of generation {restored.restored_generation}")


def _say(base: KnowledgeBase, seen: Inspected) -> None:
    state = "whole" if seen.intact else f"{seen.problem_count} problems"
    click.echo(
        f"{base.id}: generation {seen.generation}: {state}; "
        f"{seen.checked_segments} segments, {seen.checked_bytes} bytes, {seen.checked_documents} documents"
    )
    for problem in seen.problems:
        click.echo(f"{base.id}:   {_line(problem)}")


def _line(problem: Problem) -> str:
    places = (("segment", problem.segment_id), ("document", problem.document_id), ("file", problem.file))
    where = ", ".join(f"{name} {value}" for name, value in places if value)
    return f"{problem.kind}: {where}: {problem.message}" if where else f"{problem.kind}: {problem.message}"


@kb.command("scrub")
@click.argument("ids", nargs=-1, metavar="[ID]...")
def scrub_command(ids: tuple[str, ...]) -> None:
    """Verify the one segment that was not looked at for longest. For a scheduler: cheap, repeatable, never two at a time.

    Exit status 0: it is whole, or there is none. 3: it, or a manifest, is damaged. 1: the command could not do its work.
    """
    with opened() as resources:
        repairs = Repairs(resources.storage, resources.knowledge)
        oldest, damaged = _oldest(chosen(resources, ids), repairs.due)
        check = repairs.scrub(oldest) if oldest else None
    if check:
        click.echo(f"{check.knowledge_base_id}: segment {check.segment_id}: {check.condition}")
    sys.exit(0 if not damaged and (check is None or check.condition == "whole") else DAMAGED)


def _oldest(bases: Iterator[KnowledgeBase], due: Callable[[KnowledgeBase], float]) -> tuple[KnowledgeBase | None, bool]:
    """The knowledge base whose turn it is, and whether the manifest of any could not be read."""
    found: tuple[float, KnowledgeBase | None] = (float("inf"), None)
    damaged = False
    for base in bases:
        try:
            at = due(base)
        except AgentHubError as error:
            click.echo(f"{base.id}: {error.message}", err=True)
            damaged = True
            continue
        if at < found[0]:
            found = (at, base)
        if at == 0:
            break
    return found[1], damaged
