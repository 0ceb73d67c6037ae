"""Backups from a shell: `python -m agenthub.cli storage backup|restore|restored`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from agenthub import __version__
from agenthub.cli_knowledge import DAMAGED, opened
from agenthub.cli_storage import bar, count_rows
from agenthub.repositories.knowledge.backup_pins import KEPT_SECONDS, pin_for_backup
from agenthub.repositories.knowledge.restored import begin_epoch, settle
from agenthub.repositories.tables import MOVED_TABLES
from agenthub.resources import Resources
from agenthub.storage.contract import Write
from agenthub.storage.gate import held, read_gate
from agenthub.storage.moving.backup import Backup, Contents, restore, write_backup
from agenthub.storage.moving.filling import End

FILE = click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))


@click.command("backup")
@FILE
@click.option(
    "--keep-seconds", type=click.FloatRange(0, 3660 * 86400), default=KEPT_SECONDS, show_default=True, help="How long its files are kept."
)
def backup_command(path: Path, keep_seconds: float) -> None:
    """Write all rows of this moment to a new file, while the servers go on. Copy the volume afterwards.

    What the rows name on the volume is kept from being collected for --keep-seconds.
    """
    with opened() as resources:
        storage = resources.storage
        with storage.at_one_moment() as moment, bar(count_rows(storage), "backing up") as progress:
            taken_at = storage.now()
            pinned = pin_for_backup(storage, moment, keep_seconds)
            contents = write_backup(path, moment, MOVED_TABLES, taken_at, __version__, progress)
    _say(contents)
    click.echo(f"{pinned} knowledge bases are kept for {keep_seconds / 86400:g} days as they were at {contents.header.taken_at}")
    click.echo("The file holds password hashes, keys' hashes and the deployment's secrets: keep it as safe as the database.", err=True)


@click.command("restore")
@FILE
def restore_command(path: Path) -> None:
    """Fill the empty database that the environment names with a backup; the volume has to be there already.

    The file is verified to its end first. Exit status 3: restored, but some knowledge base's files are missing.
    """
    backup = Backup(path, MOVED_TABLES)
    with opened() as resources:
        with bar(0, "verifying") as progress:
            contents = backup.verified(progress)
        end = End(resources.storage, resources.settings.storage.describe())
        with bar(sum(one.count for one in contents.sums.values()), "restoring") as progress:
            filling = restore(backup, contents, end, MOVED_TABLES, progress)
        broken = _settled(resources, [held(read_gate(resources.storage).token)])
        filling.opened()
    _say(contents)
    if broken:
        raise SystemExit(DAMAGED)


@click.command("restored")
def restored_command() -> None:
    """After the database was restored by other means (pg_restore, a provider's snapshot): what `restore` does in the end.

    Knowledge bases begin a new epoch, and generations whose files are gone are forgotten. Run it before the servers start.
    """
    with opened() as resources:
        if _settled(resources, ()):
            raise SystemExit(DAMAGED)


def _settled(resources: Resources, passing: Sequence[Write]) -> int:
    begin_epoch(resources.storage, passing)
    broken = 0
    for one in settle(resources.storage, resources.knowledge, passing):
        if one.forgotten:
            click.echo(f"{one.knowledge_base_id} {one.name}: {one.forgotten} older generations are gone")
        if not one.readable:
            broken += 1
            click.echo(f"{one.knowledge_base_id} {one.name}: files of the current generation are missing", err=True)
    return broken


def _say(contents: Contents) -> None:
    rows = sum(one.count for one in contents.sums.values())
    click.echo(f"{rows} rows of {contents.header.taken_at}, content {contents.content_sha256}")


BACKUP_COMMANDS: Final = (backup_command, restore_command, restored_command)
"""What the group `storage` gets from here."""
