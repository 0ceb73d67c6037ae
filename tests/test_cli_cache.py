"""`cache flush` on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from agenthub.cache.configuration import CacheSettings, parse_servers
from agenthub.cache.configuration import MemcachedSettings as Memcached
from agenthub.cache.keys import CacheKeys
from agenthub.cache.open import open_cache
from agenthub.cache.policy import CachePolicy
from agenthub.cli import cli
from agenthub.core.types import EVERY_TENANT
from tests.servers.memcached import MemcachedServer

SECRET = "a secret of thirty-two characters"


@pytest.fixture
def environment(tmp_path: Path, memcached: MemcachedServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in list(os.environ):
        if name.startswith(("AGENTHUB_", "MEMCACHED_", "REDIS_", "DATABASE_")):
            monkeypatch.delenv(name)
    return {"DATABASE_URL": f"sqlite:///{tmp_path}/a.sqlite3", "MEMCACHED_SERVERS": memcached.address, "AGENTHUB_CACHE_KEY": SECRET}


def test_flushing_a_kind_forgets_it_and_no_other(environment: dict[str, str]) -> None:
    def opened() -> set[str]:
        cache = open_cache(CacheSettings(Memcached(parse_servers(environment["MEMCACHED_SERVERS"])), secret=SECRET))
        keys = [CacheKeys().key(EVERY_TENANT, kind, 1, "v") for kind in ("embedding", "result")]
        found = cache.get_many(keys)
        cache.set_many(dict.fromkeys(keys, b"v"), 60)
        cache.close()
        return {key.split(".")[1] for key in found}

    opened()
    assert opened() == {"embedding", "result"}
    done = CliRunner().invoke(cli, ["cache", "flush", "embedding"], env=environment)
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "embedding: flushed")
    assert opened() == {"result"}


def test_a_dead_server_is_said(environment: dict[str, str], memcached: MemcachedServer) -> None:
    memcached.kill()
    done = CliRunner().invoke(cli, ["cache", "flush", "result"], env=environment)
    assert done.exit_code == 1
    assert "nothing was flushed" in done.output


def test_without_a_server_nothing_is_pretended(environment: dict[str, str]) -> None:
    for command in (["flush", "result"], ["warm"]):
        done = CliRunner().invoke(cli, ["cache", *command], env={**environment, "MEMCACHED_SERVERS": ""})
        assert done.exit_code == 1
        assert "own memory" in done.output


def test_every_process_is_asked_to_warm(environment: dict[str, str], memcached: MemcachedServer) -> None:
    cache = open_cache(CacheSettings(Memcached(parse_servers(environment["MEMCACHED_SERVERS"])), secret=SECRET))
    cached = CachePolicy(cache, CacheKeys())
    assert cached.asked_to_warm() is None
    words = set()
    for _ in range(2):
        done = CliRunner().invoke(cli, ["cache", "warm"], env=environment)
        assert (done.exit_code, done.output.splitlines()[-1]) == (0, "every process was asked to warm itself")
        words.add(cached.asked_to_warm())
    assert len(words) == 2 and None not in words
    memcached.kill()
    done = CliRunner().invoke(cli, ["cache", "warm"], env=environment)
    assert done.exit_code == 1
    assert "nobody was told" in done.output
    cache.close()
