"""What an operator does to the shared cache: `python -m agenthub.cli cache COMMAND`."""

from __future__ import annotations

import os

import click
from flask import Flask

from agenthub.cache.keys import CacheKeys
from agenthub.cache.limits import KIND, VERSION
from agenthub.cache.open import open_cache
from agenthub.cache.policy import KINDS
from agenthub.repositories.platform.deployment_secrets import CACHE, deployment_secret
from agenthub.settings import Settings
from agenthub.storage.open import open_storage
from agenthub.storage.schema import check_schema
from agenthub.web.logs import configure_logs

VERSIONS = {kind.name: kind.version for kind in KINDS} | {KIND: VERSION}


@click.group("cache")
def cache() -> None:
    """Operate the cache that all replicas share."""


@cache.command("flush")
@click.argument("namespace", type=click.Choice(sorted(VERSIONS)))
def flush_command(namespace: str) -> None:
    """Put all entries of a kind out of use, on every replica within 5 seconds."""
    settings = Settings.from_env(os.environ)
    configure_logs(settings.log)
    if not settings.cache.shared:
        raise click.ClickException("each process caches in its own memory, which only its restart empties: no cache server is set")
    storage = open_storage(settings.storage, Flask("agenthub"))
    check_schema(storage)
    opened = open_cache(settings.cache, lambda: deployment_secret(storage, CACHE))
    flushed = opened.flush(CacheKeys(settings.cache.deployment).namespace(namespace, VERSIONS[namespace]))
    opened.close()
    storage.close()
    if not flushed:
        raise click.ClickException("the cache server does not answer: nothing was flushed")
    click.echo(f"{namespace}: flushed")
