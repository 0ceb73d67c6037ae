"""HTTP routes of responses."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.services.platform.response_generation.logic import Responses
from agenthub.services.platform.response_generation.schemas import MAX_BYTES, ModelsOut, Respond, ResponseOut
from agenthub.web.access import operation, principal, resources
from agenthub.web.declare import accepts, refuses, requires, returns, serves
from agenthub.web.streaming import MEDIA_TYPE, event_stream

bp = Blueprint("responses", __name__)
BLUEPRINTS: Final = (("/api/responses", bp),)


@bp.post("")
@requires("responses:create")
@accepts(Respond, max_bytes=MAX_BYTES)
@returns(ResponseOut)
@serves(MEDIA_TYPE, "with `stream`: events `text`…, and `answer` or `error` as the last one")
@refuses("conflict", "payload_too_large", "model_mismatch", "rate_limited", "provider_failure")
def create_response(body: Respond) -> object:
    """Go on with a conversation: by a language model where one is configured, from given texts or knowledge bases also without.

    Nothing is kept, so an Idempotency-Key changes nothing: each request is answered anew.
    """
    responses = Responses(resources(), principal().tenant_id, operation().actor)
    if not body.stream:
        return responses.respond(body)
    telling = responses.begin(body)
    return event_stream(responses.events(telling), telling.close)


@bp.get("/models")
@requires("responses:create")
@returns(ModelsOut)
def list_models() -> ModelsOut:
    """The models that may be asked."""
    model = resources().llm
    return ModelsOut(models=model.models if model else ())
