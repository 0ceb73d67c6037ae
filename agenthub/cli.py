"""What an operator does from a shell: `python -m agenthub.cli COMMAND`. Runs beside the servers, also before the first migration."""

from __future__ import annotations

import os
import sys

import click
from flask import Flask

from agenthub.cli_backup import BACKUP_COMMANDS
from agenthub.cli_bundles import BUNDLE_COMMANDS
from agenthub.cli_cache import cache
from agenthub.cli_ingest import ingest_command
from agenthub.cli_knowledge import kb
from agenthub.cli_storage import storage
from agenthub.cli_upkeep import COMMANDS
from agenthub.cli_warehouse import make_warehouse, warehouse
from agenthub.cli_worker import worker_command
from agenthub.core.errors import AgentHubError
from agenthub.registry import SERVICES
from agenthub.repositories.platform.founding import ensure_first_owner
from agenthub.repositories.tables import TABLES
from agenthub.settings import Settings
from agenthub.storage.contract import Storage
from agenthub.storage.migrating import migrate
from agenthub.storage.open import open_storage
from agenthub.storage.schema import check_schema
from agenthub.variables import VARIABLES
from agenthub.web.logs import configure_logs


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Operate AgentHub. Settings come from the environment, as for the server."""


def _storage() -> Storage:
    settings = Settings.from_env(os.environ)
    configure_logs(settings.log)
    return open_storage(settings.storage, Flask("agenthub"))


@cli.command("migrate")
def migrate_command() -> None:
    """Bring the database's schema to this release's revision. Safe to repeat, and from several machines at once."""
    opened = _storage()
    revision = migrate(opened, tables=TABLES)
    click.echo(f"{opened.backend}: schema revision {revision}" if revision else f"{opened.backend}: nothing to migrate")
    opened.close()
    made = make_warehouse()
    if made:
        click.echo(made)


@cli.command("owner")
@click.option("--email", required=True, envvar="AGENTHUB_OWNER_EMAIL", help="The first owner's e-mail address.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking for it.")
def owner_command(email: str, password_stdin: bool) -> None:
    """Make the first owner, or give a password to one who still has the default password."""
    password = os.environ.get("AGENTHUB_OWNER_PASSWORD")
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not password:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    opened = _storage()
    check_schema(opened)
    owner = ensure_first_owner(opened, email, password, allow_default=False)
    opened.close()
    if owner.outcome == "exists":
        raise click.ClickException("there is an owner already; owners make further users with POST /api/users")
    click.echo(f"{owner.email}: {owner.outcome}")


@cli.command("services")
def services_command() -> None:
    """List the services that AGENTHUB_SERVICES may name."""
    for service in SERVICES:
        click.echo(f"{service.name:34} {', '.join(service.prefixes)}")


@cli.command("variables")
def variables_command() -> None:
    """Print every environment variable with its default: the text of config/example.env."""
    for variable in VARIABLES:
        click.echo(f"# {variable.description}\n{variable.name}={variable.default}\n")


for command in COMMANDS:
    kb.add_command(command)
for bundle_command in BUNDLE_COMMANDS:
    kb.add_command(bundle_command)
for backup_command in BACKUP_COMMANDS:
    storage.add_command(backup_command)
cli.add_command(kb)
cli.add_command(worker_command)
cli.add_command(cache)
cli.add_command(ingest_command)
cli.add_command(storage)
cli.add_command(warehouse)


def main() -> None:
    """Run a command; what can't be done is one clear message and exit status 1."""
    try:
        cli()
    except AgentHubError as error:
        click.echo(error.message, err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
