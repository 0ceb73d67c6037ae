"""Secrets that all processes of a deployment share without being told them: made once, by whoever is first."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agenthub.core.errors import AlreadyExists
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import Insert, Storage, Table


@dataclass(frozen=True, slots=True)
class DeploymentSecret:
    """One secret by what it is for."""

    id: str
    value: str = field(repr=False)
    created_at: datetime


DEPLOYMENT_SECRETS: Final = Table.of("deployment_secrets", DeploymentSecret, tenant=None)
CACHE: Final = "cache"


def deployment_secret(storage: Storage, purpose: str) -> bytes:
    """The 32 random bytes that this deployment uses for a purpose; of several processes that ask first, all get the same.

    Raises: StorageUnavailable when nobody can tell.
    """
    for _ in range(2):
        row = storage.get(DEPLOYMENT_SECRETS, EVERY_TENANT, purpose)
        if row is not None:
            return bytes.fromhex(row["value"])
        made = DeploymentSecret(purpose, secrets.token_hex(32), storage.now())
        try:
            storage.commit([Insert(DEPLOYMENT_SECRETS, row_of(made))])
        except AlreadyExists:
            continue
    kept = storage.get(DEPLOYMENT_SECRETS, EVERY_TENANT, purpose)
    assert kept is not None
    return bytes.fromhex(kept["value"])
