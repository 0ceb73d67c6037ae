"""Moving all rows: `python -m agenthub.cli storage copy|switch|pause|resume|status|finish`, and backups in cli_backup.py."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import click
from flask import Flask
from tqdm import tqdm

from agenthub.core.errors import Conflict, SettingsError
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.tables import MOVED_TABLES, TABLES
from agenthub.settings import Settings
from agenthub.storage.configuration import parse_storage_url
from agenthub.storage.contract import Storage
from agenthub.storage.gate import Gate, open_gate, pause_writes, read_gate
from agenthub.storage.migrating import migrate
from agenthub.storage.moving.canonical import content_sha256
from agenthub.storage.moving.copying import Move, unfollow
from agenthub.storage.moving.filling import End
from agenthub.storage.moving.scanning import Comparison, Progress
from agenthub.storage.moving.switching import PAUSE_SECONDS, switch
from agenthub.storage.moving.tables import MOVE_ID, MOVES
from agenthub.storage.open import open_storage
from agenthub.storage.schema import check_schema
from agenthub.web.logs import configure_logs

FROM = click.option("--from", "source_url", required=True, envvar="AGENTHUB_MOVE_FROM", help="Where the rows are, as in DATABASE_URL.")
TO = click.option("--to", "target_url", required=True, help="Where they go: also bigquery://PROJECT/DATASET.")
_REPAIRS: Final = 5
_QUIET_SECONDS: Final = 1.0


@click.group("storage")
def storage() -> None:
    """Move all rows to another database, back them up, restore them."""


@contextmanager
def opened_end(url: str, *, prepare: bool) -> Iterator[End]:
    """The storage of a URL; with `prepare` its schema is made first."""
    try:
        settings = parse_storage_url(url)
    except SettingsError as error:
        raise click.ClickException("; ".join(error.problems).replace("DATABASE_URL", "the URL")) from error
    opened = open_storage(settings, Flask("agenthub"))
    try:
        if prepare:
            migrate(opened, tables=TABLES)
        check_schema(opened)
        yield End(opened, settings.describe())
    finally:
        opened.close()


@contextmanager
def opened_here() -> Iterator[End]:
    """The storage that the environment names."""
    settings = Settings.from_env(os.environ)
    configure_logs(settings.log)
    opened = open_storage(settings.storage, Flask("agenthub"))
    try:
        check_schema(opened)
        yield End(opened, settings.storage.describe())
    finally:
        opened.close()


@contextmanager
def bar(total: int, what: str) -> Iterator[Progress]:
    """A progress bar over rows, on standard error, where that is a terminal."""
    with tqdm(total=total, desc=what, unit=" rows", disable=None) as shown:

        def advance(table: str, rows: int) -> None:
            shown.set_postfix_str(table, refresh=False)
            shown.update(rows)

        yield advance


@contextmanager
def _move(source_url: str, target_url: str, *, prepare: bool = False) -> Iterator[Move]:
    with opened_end(source_url, prepare=False) as source, opened_end(target_url, prepare=prepare) as target:
        yield Move(source, target, MOVED_TABLES)


@storage.command("copy")
@FROM
@TO
@click.option("--follow", is_flag=True, help="Go on bringing changes over until interrupted; then `storage switch` switches over.")
@click.option("--once", is_flag=True, help="With --follow: end when the changes so far are brought over.")
def copy_command(source_url: str, target_url: str, follow: bool, once: bool) -> None:
    """Copy all rows into an empty database. Killed at any point it goes on where it was when it is run again.

    Without --follow every row is compared afterwards; exit status 1 if the source doesn't hold still for that.
    """
    with _move(source_url, target_url, prepare=True) as move:
        with bar(count_rows(move.source.storage), "copying") as move.progress:
            move.copy(follow=follow)
        if follow:
            _follow(move, once=once)
            return
        seen = _made_equal(move)
        move.finish()
    _say_sums(seen)


def _follow(move: Move, *, once: bool) -> None:
    with tqdm(desc="following", unit=" changes", disable=None) as shown:
        while True:
            settled = move.drain()
            shown.update(settled)
            if once:
                click.echo(f"{move.target.name} follows {move.source.name}")
                return
            if not settled:
                time.sleep(_QUIET_SECONDS)


def _made_equal(move: Move) -> Comparison:
    for _ in range(_REPAIRS):
        with bar(count_rows(move.source.storage), "verifying") as move.progress:
            seen = move.compare()
        if not seen.differing:
            return seen
        move.repair(seen.differing)
    raise Conflict("the source keeps changing: copy with --follow, or `storage pause` it first")


def _say_sums(seen: Comparison) -> None:
    for name, one in seen.other.items():
        click.echo(f"{name:28} {one.count:>10} {one.sha256}")
    click.echo(f"content {content_sha256(seen.other)}")


@storage.command("switch")
@FROM
@TO
@click.option("--pause-seconds", type=click.FloatRange(5, 600), default=PAUSE_SECONDS, show_default=True, help="The longest pause.")
def switch_command(source_url: str, target_url: str, pause_seconds: float) -> None:
    """Switch over to a database that `storage copy --follow` filled; the other way round it is the way back.

    Every row is compared first, while writes go on. Then writes pause, the rest is brought over, the source is marked as moved and
    the target opened. Whatever fails before that, the source goes on serving.
    """
    with _move(source_url, target_url) as move:
        with bar(count_rows(move.source.storage), "verifying") as move.progress:
            done = switch(move, pause_seconds)
        if done.sums:
            rows = sum(one.count for one in done.sums.values())
            click.echo(f"{rows} rows verified, {done.repaired} repaired; writes were paused for {done.paused_seconds:.2f} seconds")
    click.echo("switched: start the servers with the new DATABASE_URL; those that are not, refuse writes")
    click.echo("the way back is `storage switch` the other way round; `storage finish` ends it")


@storage.command("finish")
@TO
def finish_command(target_url: str) -> None:
    """End the way back after a switch: the database in use notes no more changes for it."""
    with opened_end(target_url, prepare=False) as end:
        unfollow(end.storage)
        click.echo(f"{end.name}: no more changes are noted")


@storage.command("pause")
@click.option("--seconds", type=click.FloatRange(1, 86400), default=600.0, show_default=True, help="When writes go on by themselves.")
@click.option("--note", default="maintenance", show_default=True, help="What refused writers are told.")
def pause_command(seconds: float, note: str) -> None:
    """Refuse writes on every process of this deployment: 503 with Retry-After. Reads go on."""
    with opened_here() as end:
        gate = read_gate(end.storage)
        if gate.mode != "open":
            raise Conflict(f"{end.name} is {gate.mode}: {gate.note}")
        click.echo(f"{end.name}: writes are paused until {pause_writes(end.storage, gate, seconds, note).until}")


@storage.command("resume")
@click.option("--moved", is_flag=True, help="Also if the rows moved elsewhere. What was written there since is not here!")
def resume_command(moved: bool) -> None:
    """Take writes again after `storage pause`, or after a switch or copy that was given up."""
    with opened_here() as end:
        gate = read_gate(end.storage)
        if gate.mode == "moved" and not moved:
            raise Conflict(f"{gate.note}: `storage switch` from there is the way back; --moved opens this one as it is")
        if gate.mode == "paused" and gate.until is None:
            raise Conflict(f"{gate.note}: let `storage copy` or `storage restore` end, or throw this database away")
        open_gate(end.storage, gate)
        click.echo(f"{end.name}: writes are taken")


@storage.command("status")
def status_command() -> None:
    """Whether this deployment takes writes, who follows it, and what is being moved into it."""
    with opened_here() as end:
        for line in status_of(end, read_gate(end.storage)):
            click.echo(line)


def status_of(end: End, gate: Gate) -> Sequence[str]:
    """The lines of `storage status`."""
    until = f" until {gate.until}" if gate.until else ""
    lines = [f"{end.name}: {gate.mode}{until}{f' ({gate.note})' if gate.note else ''}"]
    if gate.followed:
        lines.append(f"followed by a move: {Move(end, end, ()).pending()} changes wait")
    if gate.exported:
        lines.append(f"exported to the warehouse: {gate.exported}")
    move = end.storage.get(MOVES, EVERY_TENANT, MOVE_ID)
    if move is not None:
        lines.append(f"copy of {move['source']}: {move['phase']}, {move['row_count']} rows, at {move['table_name']}")
    return lines


def count_rows(opened: Storage) -> int:
    """How many rows there are to deal with."""
    return sum(opened.count(table, EVERY_TENANT) for table in MOVED_TABLES)
