"""The same no-op with and without authentication: what telling who calls costs."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.web.declare import public, returns, signed_in
from agenthub.web.schema import Schema

bp = Blueprint("noop", __name__)
BLUEPRINTS: Final = (("/api/noop", bp),)


class Nothing(Schema):
    """An empty answer."""


@bp.get("/public")
@public("measures the web layer without authentication")
@returns(Nothing)
def for_everyone() -> Nothing:
    """Answer nothing to anyone."""
    return Nothing()


@bp.get("/signed-in")
@signed_in()
@returns(Nothing)
def for_callers() -> Nothing:
    """Answer nothing to whoever is signed in."""
    return Nothing()
