"""Rate limits around every view that is not for platforms: 429 with Retry-After, and RateLimit headers on every answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from agenthub.cache.limits import WINDOW_SECONDS, Standing, Subject
from agenthub.core.errors import RateLimited
from agenthub.repositories.platform.principals import Principal
from agenthub.web.access import client_address, resources, state


def limit_address() -> None:
    """Count the request for the address it comes from, before anybody is asked who that is.

    Raises: RateLimited.
    """
    if resources().settings.rate_limits:
        _count([Subject("address", _network(client_address()), resources().settings.rates.per_address)])


def limit_caller(caller: Principal) -> None:
    """Count the request for its API key or user, and for the organization.

    Raises: RateLimited.
    """
    if not resources().settings.rate_limits:
        return
    rates = resources().settings.rates
    own = Subject("key", caller.id, rates.per_key) if caller.kind == "api_key" else Subject("user", caller.user_id, rates.per_user)
    _count([own, Subject("organization", caller.tenant_id, rates.per_organization)])


def _count(subjects: Sequence[Subject]) -> None:
    standing = resources().limits.count(subjects)
    before = state().standing
    if before is None or standing.remaining < before.remaining:
        state().standing = standing
    if standing.exceeded:
        raise RateLimited(
            f"more than {standing.subject.per_minute} requests a minute of this {standing.subject.scope}",
            retry_after_seconds=standing.reset_seconds,
        )


def headers_of(standing: Standing) -> dict[str, str]:
    """What is left, for the client to see (draft-ietf-httpapi-ratelimit-headers, in its widespread form)."""
    return {
        "RateLimit-Limit": str(standing.subject.per_minute),
        "RateLimit-Remaining": str(standing.remaining),
        "RateLimit-Reset": str(standing.reset_seconds),
        "RateLimit-Policy": f"{standing.subject.per_minute};w={WINDOW_SECONDS}",
    }


def _network(address: str) -> str:
    """An IPv6 client owns a /64; anything else counts by itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
