"""The only place where cache keys are made.

A key is `<deployment>.<kind>.v<version>/<SHA-256>`: at most 200 bytes of letters, digits and `-_./`, whatever the parts hold, so
that nothing a user writes reaches a cache protocol. The hash is over tenant and parts, each with its length.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from agenthub.cache.contract import Cache
from agenthub.core.types import EVERY_TENANT, TenantScope

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}\Z")


class CacheKeys:
    """Makes the keys of one deployment: two that share a server never see each other's entries."""

    def __init__(self, deployment: str = "agenthub") -> None:
        """Raises: ValueError when the name is not 1 to 48 of [a-z0-9_-]."""
        self._deployment = _checked(deployment)

    def namespace(self, kind: str, version: int) -> str:
        """What `Cache.flush` takes. `version` is raised when the form of the values changes."""
        return f"{self._deployment}.{_checked(kind)}.v{version}"

    def key(self, tenant_id: TenantScope, kind: str, version: int, *parts: str) -> str:
        """The key of one entry. `EVERY_TENANT` is for values that hold and betray nothing of a tenant."""
        scope = b"*" if tenant_id is EVERY_TENANT else b"=" + str(tenant_id).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256()
        for part in (scope, *(part.encode("utf-8", "surrogatepass") for part in parts)):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return f"{self.namespace(kind, version)}/{digest.hexdigest()}"


class ScopedCache:
    """One kind of entry of a tenant, or of none, by plain names: what engines that know no keys are given."""

    def __init__(self, cache: Cache, keys: CacheKeys, tenant_id: TenantScope, kind: str, version: int) -> None:
        self._cache = cache
        self._keys = keys
        self._tenant_id = tenant_id
        self._kind = kind
        self._version = version

    def get_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """The entries present, by name."""
        keys = {self._key(name): name for name in names}
        return {keys[key]: value for key, value in self._cache.get_many(list(keys)).items() if key in keys}

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """Keep or replace the entries for at most `ttl_seconds`."""
        self._cache.set_many({self._key(name): value for name, value in items.items()}, ttl_seconds)

    def _key(self, name: str) -> str:
        return self._keys.key(self._tenant_id, self._kind, self._version, name)


def kind_of(key: str) -> str:
    """The kind of the entry a key is for, also where something was added to the key; `none` for what `CacheKeys` didn't make."""
    namespace = key.partition("/")[0].split(".")
    return namespace[1] if len(namespace) == 3 else "none"


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError(f"{name!r} is not a name of 1 to 48 characters of [a-z0-9_-]")
    return name
