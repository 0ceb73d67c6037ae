"""Keys tell apart what must be, and hold nothing a user wrote."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.cache.in_process import InProcessCache
from agenthub.cache.keys import CacheKeys, ScopedCache
from agenthub.core.types import EVERY_TENANT, TenantId

PARTS = st.lists(st.text(max_size=30), max_size=4)


@given(st.text(max_size=40), PARTS)
def test_a_key_is_short_plain_text(tenant: str, parts: list[str]) -> None:
    key = CacheKeys("d").key(TenantId(tenant), "kind", 3, *parts)
    assert re.fullmatch(r"d\.kind\.v3/[0-9a-f]{64}", key)


def test_the_longest_name_on_a_server_fits_memcached() -> None:
    longest = CacheKeys("d" * 48).key(TenantId("t"), "k" * 48, 999, "part")
    edition, counter = "~" + "0" * 16, "#"
    assert len(longest + edition + counter) <= 250


@given(st.tuples(st.text(max_size=5), PARTS), st.tuples(st.text(max_size=5), PARTS))
def test_other_tenants_and_parts_have_other_keys(one: tuple[str, list[str]], other: tuple[str, list[str]]) -> None:
    keys = CacheKeys()
    same = keys.key(TenantId(one[0]), "k", 1, *one[1]) == keys.key(TenantId(other[0]), "k", 1, *other[1])
    assert same == (one == other)


def test_deployments_kinds_versions_and_scopes_are_told_apart() -> None:
    made = {
        CacheKeys("a").key(TenantId("t"), "k", 1, "x"),
        CacheKeys("b").key(TenantId("t"), "k", 1, "x"),
        CacheKeys("a").key(TenantId("t"), "l", 1, "x"),
        CacheKeys("a").key(TenantId("t"), "k", 2, "x"),
        CacheKeys("a").key(TenantId("*"), "k", 1, "x"),
        CacheKeys("a").key(EVERY_TENANT, "k", 1, "x"),
    }
    assert len(made) == 6


@pytest.mark.parametrize("name", ["", "a b", "a\r\n", "A", "ü", "a/b", "a.b", "x" * 49])
def test_names_that_could_break_a_protocol_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        CacheKeys(name)
    with pytest.raises(ValueError, match="not a name"):
        CacheKeys().namespace(name, 1)


def test_a_scope_sees_its_own_entries_by_name() -> None:
    cache = InProcessCache(100_000)
    one = ScopedCache(cache, CacheKeys(), TenantId("one"), "vector", 1)
    other = ScopedCache(cache, CacheKeys(), TenantId("other"), "vector", 1)
    one.set_many({"a": b"1", "b\r\n": b"2"}, 60)
    assert one.get_many(["a", "b\r\n", "c"]) == {"a": b"1", "b\r\n": b"2"}
    assert other.get_many(["a", "b\r\n"]) == {}
