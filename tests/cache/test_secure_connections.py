"""TLS and log-ins of real and scripted servers: what is not the server that was meant is refused, in words, and learns no password."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client

from agenthub.cache.configuration import CacheSettings, MemcachedSettings
from agenthub.cache.contract import Cache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.open import open_cache
from agenthub.core.errors import SettingsError
from agenthub.core.types import TenantId
from tests.servers.certificates import Authority
from tests.servers.memcached import PASSWORD, USERNAME, Daemon, Login, MemcachedServer
from tests.servers.memcachier import MemcachierServer
from tests.servers.redis import RedisServer

KEY = CacheKeys("tls").key(TenantId("t"), "kind", 1, "v")
SECRET = b"the secret of this deployment"
LOGIN: dict[str, Any] = {"username": USERNAME, "password": PASSWORD}
Servers = dict[str, Daemon]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "trusted")


@pytest.fixture(scope="module")
def servers(authority: Authority) -> Iterator[Servers]:
    right, elsewhere = authority.identity("right"), authority.identity("elsewhere", host="cache.example")
    old = authority.identity("old", expired=True)
    none: Login = "none"
    with ExitStack() as stack:
        made: Servers = {
            "memcached": MemcachedServer(identity=right),
            "memcached-ascii": MemcachedServer("ascii", identity=right),
            "memcached-sasl": MemcachedServer("sasl", identity=right),
            "redis": RedisServer(password=True, identity=right),
            "memcached-elsewhere": MemcachedServer(none, identity=elsewhere),
            "memcached-old": MemcachedServer(none, identity=old),
            "memcached-sasl-old": MemcachedServer("sasl", identity=old),
            "redis-elsewhere": RedisServer(identity=elsewhere),
            "redis-old": RedisServer(identity=old),
            "memcached-plain": MemcachedServer(),
        }
        for server in made.values():
            stack.callback(server.destroy)
            server.start()
        yield made


def opened(server: Daemon, ca_file: Path, **login: Any) -> Cache:
    if isinstance(server, RedisServer):
        settings = CacheSettings(redis_url=server.url(), redis_ca_file=str(ca_file))
    else:
        settings = CacheSettings(MemcachedSettings((("127.0.0.1", server.port),), tls=True, ca_file=str(ca_file), **login))
    return open_cache(settings, lambda: SECRET)


def works(cache: Cache) -> bool:
    cache.set_many({KEY: b"value"}, 60)
    return cache.get_many([KEY]) == {KEY: b"value"}


@pytest.mark.parametrize(
    ("name", "login"),
    [("memcached", {}), ("memcached-ascii", LOGIN), ("memcached-sasl", {"protocol": "sasl", **LOGIN}), ("redis", {})],
)
def test_what_is_written_over_tls_is_read(servers: Servers, authority: Authority, name: str, login: dict[str, Any]) -> None:
    cache = opened(servers[name], authority.file, **login)
    assert [server.reason for server in cache.check()] == [None]
    assert works(cache)
    assert cache.increment(KEY, 2, 60) == 2
    cache.close()


REFUSED = [
    ("memcached", "other", {}, "not signed by an authority"),
    ("memcached-sasl", "other", {"protocol": "sasl", **LOGIN}, "not signed by an authority"),
    ("redis", "other", {}, "not signed by an authority"),
    ("memcached-elsewhere", "trusted", {}, "another host name"),
    ("redis-elsewhere", "trusted", {}, "another host name"),
    ("memcached-old", "trusted", {}, "has expired"),
    ("memcached-sasl-old", "trusted", {"protocol": "sasl", **LOGIN}, "has expired"),
    ("redis-old", "trusted", {}, "has expired"),
]


@pytest.mark.parametrize(("name", "authorities", "login", "said"), REFUSED)
def test_a_certificate_that_is_not_right_is_refused_and_said(
    servers: Servers,
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    authorities: str,
    login: dict[str, Any],
    said: str,
) -> None:
    ca_file = authority.file if authorities == "trusted" else Authority(tmp_path, "other").file
    with caplog.at_level(logging.ERROR, "agenthub.cache"):
        cache = opened(servers[name], ca_file, **login)
    (server,) = cache.check()
    assert not server.ok and server.reason is not None
    assert said in server.reason
    assert said in caplog.text
    assert not works(cache)
    cache.close()


def test_without_an_own_authority_the_systems_decide(servers: Servers) -> None:
    settings = CacheSettings(MemcachedSettings((("127.0.0.1", servers["memcached"].port),), tls=True))
    cache = open_cache(settings, lambda: SECRET)
    assert "not signed by an authority" in str(cache.check()[0].reason)
    cache.close()


def test_a_server_without_tls_is_not_spoken_to_in_the_clear(servers: Servers, authority: Authority) -> None:
    cache = opened(servers["memcached-plain"], authority.file, **LOGIN)
    assert not cache.check()[0].ok
    assert not works(cache)
    cache.close()
    assert Client(("127.0.0.1", servers["memcached-plain"].port)).stats()[b"cmd_set"] == 0


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_can_not_be_used_stops_the_start(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    for settings in (
        CacheSettings(MemcachedSettings((("127.0.0.1", 1),), tls=True, ca_file=str(ca_file))),
        CacheSettings(redis_url="rediss://127.0.0.1:1", redis_ca_file=str(ca_file)),
    ):
        with pytest.raises(SettingsError, match="AGENTHUB_CACHE_CA_FILE"):
            open_cache(settings, lambda: SECRET)


# --- log-ins ---


@pytest.fixture
def memcachier() -> Iterator[MemcachierServer]:
    server = MemcachierServer().start()
    yield server
    server.stop()


def by_login(port: int, **login: Any) -> Cache:
    return open_cache(CacheSettings(MemcachedSettings((("127.0.0.1", port),), **login)), lambda: SECRET)


def test_memcachiers_log_in(memcachier: MemcachierServer) -> None:
    cache = by_login(memcachier.port, protocol="memcachier", **LOGIN)
    assert [server.reason for server in cache.check()] == [None]
    assert works(cache)
    assert [cache.increment(KEY, amount, 60) for amount in (1, 4)] == [1, 5]
    assert cache.add(KEY + "0", b"v", 60)
    assert not cache.add(KEY + "0", b"w", 60)
    cache.close()
    assert USERNAME not in memcachier.entries


def test_a_wrong_password_for_memcachier_is_said(memcachier: MemcachierServer) -> None:
    cache = by_login(memcachier.port, protocol="memcachier", username=USERNAME, password="wrong")
    assert cache.check()[0].reason == "the server refuses this user name and password"
    assert not works(cache)
    cache.close()


def test_nobody_is_told_a_password_that_was_not_set(memcachier: MemcachierServer) -> None:
    cache = by_login(memcachier.port)
    assert not cache.check()[0].ok
    assert not works(cache)
    cache.close()
    sent = b"".join(memcachier.received)
    assert PASSWORD.encode() not in sent and f"set {USERNAME} ".encode() not in sent


def test_memcacheds_log_in_is_not_sent_to_a_server_without_one(memcached: MemcachedServer) -> None:
    cache = by_login(memcached.port, **LOGIN)
    assert cache.check()[0].reason == "the server has no log-in: user name and password were not sent"
    assert not works(cache)
    cache.close()
    raw = Client(("127.0.0.1", memcached.port))
    assert raw.stats()[b"cmd_set"] == 0
    assert raw.get("auth") is None


def test_memcachiers_log_in_leaves_no_entry_on_a_server_without_one(memcached: MemcachedServer) -> None:
    cache = by_login(memcached.port, protocol="memcachier", **LOGIN)
    assert "which was removed" in str(cache.check()[0].reason)
    assert not works(cache)
    cache.close()
    raw = Client(("127.0.0.1", memcached.port))
    assert raw.get(USERNAME) is None
    assert raw.stats()[b"curr_items"] == 0
