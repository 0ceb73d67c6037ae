"""Session tokens and API keys: how they look and what is kept of them."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final, Literal

SESSION_PREFIX: Final = "ahs_"
API_KEY_PREFIX: Final = "ahk_"
SHOWN_LENGTH: Final = 12
"""Characters of an API key that stay visible to tell keys apart: the prefix and 48 of 256 bits."""

_TOKEN: Final = re.compile(r"ah[sk]_[A-Za-z0-9_-]{43}\Z")


def new_token(kind: Literal["session", "api_key"]) -> str:
    """A fresh credential: its kind's prefix and 256 random bits, 47 characters."""
    return (SESSION_PREFIX if kind == "session" else API_KEY_PREFIX) + secrets.token_urlsafe(32)


def token_sha256(token: str) -> str:
    """What is stored and looked up instead of the token: hex SHA-256.

    A fast hash is right here: the token has 256 random bits, so there is nothing to guess. Looking the hash up by an index
    tells an attacker about prefixes of hashes only, which say nothing about tokens.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def is_token(text: str) -> bool:
    """Whether the text has the form of `new_token`; anything else is refused without asking the database."""
    return _TOKEN.match(text) is not None
