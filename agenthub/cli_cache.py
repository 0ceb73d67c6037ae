"""What an operator does to the shared cache: `python -m agenthub.cli cache COMMAND`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask import Flask

from agenthub.cache.keys import CacheKeys
from agenthub.cache.open import open_cache
from agenthub.cache.policy import KINDS, CachePolicy
from agenthub.repositories.platform.deployment_secrets import CACHE, deployment_secret
from agenthub.settings import Settings
from agenthub.storage.open import open_storage
from agenthub.storage.schema import check_schema
from agenthub.web.logs import configure_logs


@click.group("cache")
def cache() -> None:
    """Operate the cache that all replicas share."""


@cache.command("flush")
@click.argument("namespace", type=click.Choice(sorted(KINDS)))
def flush_command(namespace: str) -> None:
    """Put all entries of a kind out of use, on every replica within 5 seconds."""
    with _shared_cache("which only its restart empties") as cached:
        if not cached.flush(KINDS[namespace]):
            raise click.ClickException("the cache server does not answer: nothing was flushed")
    click.echo(f"{namespace}: flushed")


@cache.command("warm")
def warm_command() -> None:
    """Have every process open what was busiest lately, behind its requests, within seconds."""
    with _shared_cache("and warms itself when it starts") as cached:
        if not cached.ask_to_warm():
            raise click.ClickException("the cache server does not answer: nobody was told")
    click.echo("every process was asked to warm itself")


@contextmanager
def _shared_cache(otherwise: str) -> Iterator[CachePolicy]:
    settings = Settings.from_env(os.environ)
    configure_logs(settings.log)
    if not settings.cache.shared:
        raise click.ClickException(f"each process caches in its own memory, {otherwise}: no cache server is set")
    storage = open_storage(settings.storage, Flask("agenthub"))
    check_schema(storage)
    opened = open_cache(settings.cache, lambda: deployment_secret(storage, CACHE))
    try:
        yield CachePolicy(opened, CacheKeys(settings.cache.deployment))
    finally:
        opened.close()
        storage.close()
