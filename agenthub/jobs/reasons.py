"""Why something failed, in rows: the code of HTTP answers and a sentence for people."""

from __future__ import annotations

from typing import Final

from agenthub.core import errors

CODES: Final[dict[type[errors.AgentHubError], str]] = {
    errors.UnsupportedDocument: "unsupported_document",
    errors.PayloadTooLarge: "payload_too_large",
    errors.InvalidInput: "invalid_input",
    errors.NotFound: "not_found",
    errors.ModelMismatch: "model_mismatch",
    errors.WrongVectorEngine: "wrong_vector_engine",
    errors.GenerationConflict: "generation_conflict",
    errors.Conflict: "conflict",
    errors.RateLimited: "rate_limited",
    errors.AddressRefused: "address_refused",
    errors.FetchFailed: "fetch_failed",
    errors.ProviderFailure: "provider_failure",
    errors.StorageUnavailable: "storage_unavailable",
    errors.VolumeFull: "volume_full",
    errors.VolumeUnavailable: "volume_unavailable",
    errors.VectorEngineUnavailable: "vector_engine_unavailable",
}
INTERNAL: Final = ("internal", "something went wrong on our side; the log has the details")


def reason_of(error: Exception) -> tuple[str, str]:
    """The code and message of an error; those of our own mistakes say nothing."""
    if not isinstance(error, errors.AgentHubError):
        return INTERNAL
    code = next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), None)
    return (code, error.message) if code else INTERNAL


def error_of(code: str | None, message: str | None) -> errors.AgentHubError | None:
    """The error that a reason was made of; None when there is none. Without a type of its own it is a provider's failure."""
    if code is None:
        return None
    kind = next((kind for kind, known in CODES.items() if known == code), errors.ProviderFailure)
    return kind(message or code)
