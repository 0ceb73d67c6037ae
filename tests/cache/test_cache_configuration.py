"""Which cache a URL or a list of servers means, and what is refused."""

from __future__ import annotations

import pytest

from agenthub.cache.configuration import CacheSettings, MemcachedSettings, check_redis_url, parse_servers
from agenthub.cache.open import open_cache
from agenthub.core.errors import SettingsError


def test_servers_are_hosts_with_ports() -> None:
    assert parse_servers("a:1, b ,[::1]:11212") == (("a", 1), ("b", 11211), ("::1", 11212))


@pytest.mark.parametrize("text", ["", ",", "a:0", "a:70000", "a b:1", "memcached://secret-host:1", "a:1,a:1", "u:p@h:1", "a\r\nflush_all"])
def test_what_is_no_list_of_servers_is_refused_without_echo(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_servers(text)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("redis://h", "redis://h"),
        ("rediss://:p@h:6380/1", "rediss://:p@h:6380/1"),
        ("valkeys://h", "rediss://h"),
        ("valkey://h", "redis://h"),
    ],
)
def test_redis_urls(url: str, taken: str) -> None:
    assert check_redis_url(url) == taken


@pytest.mark.parametrize("url", ["http://h", "redis://", "redis", "redis://secret@h:port", ""])
def test_what_is_no_redis_url_is_refused_without_echo(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_redis_url(url)
    assert "secret" not in refused.value.message


def test_a_shared_cache_needs_something_to_sign_with() -> None:
    with pytest.raises(SettingsError, match="AGENTHUB_CACHE_KEY"):
        open_cache(CacheSettings(MemcachedSettings((("127.0.0.1", 1),))))


def test_no_secret_is_shown() -> None:
    settings = CacheSettings(MemcachedSettings((("h", 1),), "canary", "canary"), "redis://:canary@h", secret="canary")
    assert "canary" not in repr(settings)
