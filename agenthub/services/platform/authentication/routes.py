"""What the service serves, by prefix."""

from __future__ import annotations

from typing import Final

from agenthub.services.platform.authentication import api_keys, organizations, sessions, users

BLUEPRINTS: Final = (
    ("/api/auth", sessions.bp),
    ("/api/users", users.bp),
    ("/api/organizations", organizations.bp),
    ("/api/api-keys", api_keys.bp),
)
