"""Events on their way to BigQuery: `python -m agenthub.cli warehouse run|status|end`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
from flask import Flask

from agenthub.core import failpoints
from agenthub.core.errors import AgentHubError
from agenthub.core.observe import Unobserved
from agenthub.registry import Need
from agenthub.repositories.exported import EXPORTED_TABLES
from agenthub.resources import open_resources
from agenthub.settings import Settings
from agenthub.storage.warehouse.exporting import Exporter
from agenthub.storage.warehouse.feed import Standing
from agenthub.web.logs import configure_logs

_NEEDS: Final[frozenset[Need]] = frozenset({"storage"})
_WAIT_SECONDS: Final = 0.5


@click.group("warehouse")
def warehouse() -> None:
    """Export events to BigQuery, where DATABASE_URL and GOOGLE_CLOUD_PROJECT are both set."""


@contextmanager
def _exporter() -> Iterator[Exporter]:
    settings = Settings.from_env(os.environ)
    configure_logs(settings.log)
    failpoints.arm(settings.failpoints)
    resources = open_resources(settings, Flask("agenthub"), Unobserved(), _NEEDS)
    try:
        if resources.exporter is None:
            raise click.ClickException("there is no warehouse: DATABASE_URL and GOOGLE_CLOUD_PROJECT have to be set, both")
        yield resources.exporter
    finally:
        resources.close()


@warehouse.command("run")
@click.option("--once", is_flag=True, help="End when everything so far is exported, with status 1 if that fails.")
def run_command(once: bool) -> None:
    """Export events until interrupted. Any number may run, here and in servers and workers; one at a time is at work."""
    with _exporter() as exporter:
        while True:
            try:
                count = exporter.run(when_due=not once)
            except AgentHubError as error:
                if once:
                    raise
                click.echo(error.message, err=True)
                count = None
            if once and count is not None and not exporter.standing().behind_rows:
                click.echo(f"{count} rows exported")
                return
            if not count:
                time.sleep(_WAIT_SECONDS)


@warehouse.command("status")
def status_command() -> None:
    """How far the warehouse is behind, and why, if it is stuck."""
    with _exporter() as exporter:
        for line in status_of(exporter.standing()):
            click.echo(line)


@warehouse.command("end")
@click.confirmation_option(prompt="Stop noting events for the warehouse?")
def end_command() -> None:
    """Note no more events for the warehouse, as before GOOGLE_CLOUD_PROJECT is taken away. What is there stays there.

    Export begun again later brings over what is missing, and nothing twice.
    """
    with _exporter() as exporter:
        exporter.end()
        click.echo("no more events are noted")


def status_of(standing: Standing) -> list[str]:
    """The lines of `warehouse status`."""
    if not standing.enabled:
        return [f"nothing was exported yet; {standing.behind_rows} rows wait"]
    lines = [
        f"{standing.row_count} rows exported, the last at {standing.exported_at}",
        f"{standing.behind_rows} rows behind, {standing.lag_seconds:.1f} seconds",
    ]
    if not standing.filled:
        lines.append("the rows of old are being brought over; questions are answered by the database until they are there")
    if standing.error:
        lines.append(f"failing for {standing.failing_seconds:.0f} seconds, {standing.tries} tries: {standing.error}")
    return lines


def make_warehouse() -> str | None:
    """Make the warehouse's dataset and tables, where one is configured; a line that says so.

    Raises: StorageUnavailable.
    """
    settings = Settings.from_env(os.environ)
    if settings.warehouse is None:
        return None
    resources = open_resources(settings, Flask("agenthub"), Unobserved(), _NEEDS)
    try:
        if resources.warehouse is not None:
            resources.warehouse.make(EXPORTED_TABLES)
    finally:
        resources.close()
    return f"warehouse: {settings.warehouse.bigquery.project}.{settings.warehouse.bigquery.dataset} has its tables"
