"""Upkeep from a shell or a scheduler: `python -m agenthub.cli kb merge|collect|erase|maintain`."""

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
from agenthub.repositories.knowledge.collecting import Collected, Grace
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.merging import Merged
from agenthub.repositories.knowledge.rag_queries import RagQueryRepository
from agenthub.repositories.knowledge.upkeep import Done, Upkeep
from agenthub.resources import open_resources
from agenthub.settings import Settings
from agenthub.web.logs import configure_logs

IDS = click.argument("ids", nargs=-1, metavar="[ID]...")
GRACE = click.option("--grace-seconds", type=float, default=Grace().dereferenced_seconds, show_default=True, help="For files once listed.")
ORPHAN = click.option("--orphan-grace-seconds", type=float, default=Grace().orphan_seconds, show_default=True, help="For all others.")


@contextmanager
def _upkeep(grace: Grace | None = None) -> Iterator[Upkeep]:
    settings = Settings.from_env(os.environ)
    configure_logs(settings.log)
    needs: frozenset[Need] = frozenset({"storage", "cache", "knowledge", "embedders"})
    resources = open_resources(settings, Flask("agenthub"), Unobserved(), needs)
    try:
        yield Upkeep(resources.storage, resources.knowledge, resources.forget_texts, grace)
    finally:
        resources.close()


def _each(upkeep: Upkeep, ids: Sequence[str], work: Callable[[str], str]) -> None:
    """Do the work for these knowledge bases, or for all; exit status 1 when it failed for any, whose others are still done."""
    failed = 0
    for kb_id in ids or list(upkeep.all_ids()):
        try:
            said = work(kb_id)
        except AgentHubError as error:
            failed += 1
            click.echo(f"{kb_id}: {error.message}", err=True)
            continue
        if said:
            click.echo(f"{kb_id}: {said}")
    if failed:
        sys.exit(1)


def _base(upkeep: Upkeep, kb_id: str) -> KnowledgeBase | None:
    return KnowledgeBaseRepository(upkeep.storage).find(EVERY_TENANT, kb_id)


@click.command("merge")
@IDS
@click.option("--at-rest", is_flag=True, help="As if nobody were going to write: after a bulk load, for the fastest searches.")
def merge_command(ids: tuple[str, ...], at_rest: bool) -> None:
    """Merge the segments of all (or the given) knowledge bases where the plan calls for it."""
    with _upkeep() as upkeep:
        _each(upkeep, ids, lambda kb_id: _said_merged(upkeep.merge(base, at_rest=at_rest)) if (base := _base(upkeep, kb_id)) else "")


@click.command("collect")
@IDS
@GRACE
@ORPHAN
def collect_command(ids: tuple[str, ...], grace_seconds: float, orphan_grace_seconds: float) -> None:
    """Mark unused files, and remove those that have been so for their grace period. Deleted knowledge bases are collected too."""
    with _upkeep(Grace(grace_seconds, orphan_grace_seconds)) as upkeep:
        _each(upkeep, ids, lambda kb_id: _said_collected(upkeep.collect(kb_id)))


@click.command("erase")
@IDS
def erase_command(ids: tuple[str, ...]) -> None:
    """Finish the erasures that were asked for."""
    with _upkeep() as upkeep:
        _each(upkeep, ids, lambda kb_id: _said_erased(*upkeep.erase(base)) if (base := _base(upkeep, kb_id)) else "")


@click.command("maintain")
@IDS
@GRACE
@ORPHAN
def maintain_command(ids: tuple[str, ...], grace_seconds: float, orphan_grace_seconds: float) -> None:
    """All upkeep that is due: erase, merge, enforce retention, collect. For a scheduler, every few minutes; safe beside servers."""
    with _upkeep(Grace(grace_seconds, orphan_grace_seconds)) as upkeep:
        RagQueryRepository(upkeep.storage).sweep(EVERY_TENANT)
        _each(upkeep, ids, lambda kb_id: _said(upkeep.maintain(kb_id)))


def _said_merged(merged: Sequence[Merged]) -> str:
    return f"merged {sum(one.inputs for one in merged)} segments into {len(merged)}" if merged else ""


def _said_erased(done: int, waiting: int) -> str:
    return f"{done} erasures done, {waiting} waiting for writers" if done or waiting else ""


def _said_collected(collected: Collected) -> str:
    if not collected.marked and not collected.removed:
        return ""
    return f"{collected.seen} files, {collected.marked} marked, {collected.removed} removed"


def _said(done: Done) -> str:
    pruned = done.pruned
    rows = pruned.tombstones + pruned.history + pruned.operations if pruned else 0
    parts = (
        _said_erased(done.erased, done.waiting),
        _said_merged(done.merged),
        f"{rows} rows pruned" if rows else "",
        _said_collected(done.collected) if done.collected else "",
    )
    return "; ".join(part for part in parts if part)


COMMANDS: Final = (merge_command, collect_command, erase_command, maintain_command)
