"""OpenAI's own client for an endpoint that speaks its protocol, and what its answers ask of the caller."""

from __future__ import annotations

import email.utils
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import httpx2
import openai

from agenthub.endpoints.bounded import CONNECT_SECONDS, BoundedTransport

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 8.0
SERVER_ERROR: Final = 500
RETRIED: Final = frozenset({408, 409, 425, 429})
_NO_KEY: Final = "none"


def open_client(base_url: str, api_key: str | None, *, wait_seconds: float, whole_seconds: float, max_bytes: int) -> openai.OpenAI:
    """A client that waits `wait_seconds` for each byte and `whole_seconds` for an answer, and never follows a redirect with the key."""
    timeout = httpx2.Timeout(wait_seconds, connect=min(CONNECT_SECONDS, wait_seconds))
    http = httpx2.Client(
        transport=BoundedTransport(whole_seconds, max_bytes),
        headers={"Accept-Encoding": "identity"},
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
    )
    client = openai.OpenAI(
        api_key=api_key or _NO_KEY, base_url=base_url, timeout=timeout, max_retries=0, http_client=http, webhook_secret=""
    )
    # The client reads these from OPENAI_* variables; an endpoint of another provider has no business with them.
    client.organization = client.project = None
    return client


def may_pass(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in RETRIED or status >= SERVER_ERROR


def pause_seconds(attempt: int, asked_seconds: float | None) -> float:
    """How long to wait after that failed attempt: what the endpoint asked for, else growing and jittered."""
    if asked_seconds is not None:
        return asked_seconds
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter


def asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None when it is absent or neither."""
    header = headers.get("retry-after")
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        date = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
