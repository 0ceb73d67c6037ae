"""What can go wrong, as facts. `web/errors.py` alone turns these into statuses and bodies."""

from __future__ import annotations

from collections.abc import Sequence


class AgentHubError(Exception):
    """Every error AgentHub raises on purpose.

    `field` names the input at fault (a JSON path, query parameter or header), `retry_after_seconds` says when to come back.
    """

    def __init__(self, message: str, *, field: str | None = None, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_seconds = retry_after_seconds


class SettingsError(AgentHubError):
    """The environment is wrong or contradictory; `problems` names every variable at fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("AgentHub can't start with these settings:\n" + "\n".join(f"  - {p}" for p in problems))
        self.problems = tuple(problems)


class InvalidInput(AgentHubError):
    """The caller's input is well-formed but not acceptable."""


class MalformedInput(AgentHubError):
    """The caller's input can't be read at all (not JSON, not base64, not a cursor)."""


class PayloadTooLarge(AgentHubError):
    """The input is over a documented size."""


class UnsupportedDocument(AgentHubError):
    """A document can't be read: a scan without text, a wrong type, encrypted or damaged."""


class ParserDied(UnsupportedDocument):
    """Reading a document ended its process or outlasted its time: it may be the document or the machine, so it is tried again."""


class Unauthenticated(AgentHubError):
    """No valid credential was presented."""


class PermissionDenied(AgentHubError):
    """The principal is known and may not do this."""


class RateLimited(AgentHubError):
    """Too many attempts; `retry_after_seconds` is set."""


class CacheUnavailable(AgentHubError):
    """A cache server can't be used. Only health and operators hear of it: to everybody else it is a miss."""


class WarehouseStuck(AgentHubError):
    """Events don't reach the warehouse. Only health and operators hear of it: no request waits for that."""


class NotFound(AgentHubError):
    """No such thing, or not this tenant's."""


class NotRetained(NotFound):
    """An old generation was there and is no longer kept."""


class Conflict(AgentHubError):
    """The request does not fit the present state."""


class AlreadyExists(Conflict):
    """A row with this key or these unique values exists; `field` names the first unique column that is not the tenant."""

    def __init__(self, table: str, columns: Sequence[str], *, field: str | None = None) -> None:
        super().__init__(f"{table} already has a row with this {', '.join(columns) or 'key'}", field=field)
        self.table = table
        self.columns = tuple(columns)


class VersionConflict(Conflict):
    """The row changed since it was read: `expected_version` no longer holds, or a guard of the write does not."""


class GenerationConflict(Conflict):
    """A knowledge base moved on faster than this write could follow; retry later."""


class ModelMoved(GenerationConflict):
    """A knowledge base was switched to another model while vectors were made for it: embed again."""


class LeaseLost(Conflict):
    """A runner's job was taken over, cancelled or forgotten: nothing of what it still meant to write may be written."""


class ModelMismatch(Conflict):
    """Vectors of one model signature were offered to a knowledge base pinned to another."""


class WrongVectorEngine(Conflict):
    """A knowledge base is kept by another vector engine than the one this process was told to use; a bundle moves it."""


class OperationReused(Conflict):
    """An Idempotency-Key was used before with a different request."""


class StorageUnavailable(AgentHubError):
    """The database can't be reached now; nothing was written. Retry after `retry_after_seconds`."""


class OutcomeUnknown(StorageUnavailable):
    """The connection died during COMMIT and the outcome can't be settled yet; retry with the same Idempotency-Key."""


class TooManyWrites(RateLimited, StorageUnavailable):
    """More writes come than the database commits; nothing was written. `retry_after_seconds` is set."""


class TooManyCommits(RateLimited, GenerationConflict):
    """A knowledge base is written to more often than the database commits; nothing was written. `retry_after_seconds` is set."""


class WritesPaused(StorageUnavailable):
    """The database takes no writes for now, or its rows moved to another one; nothing was written. Reads go on."""


class VolumeUnavailable(AgentHubError):
    """The volume refused or failed; nothing that was visible changed."""


class VolumeFull(VolumeUnavailable):
    """No space is left for new files; reads and deletes still work."""


class MissingFile(VolumeUnavailable):
    """A file that a reference names is not there (any more): read the knowledge base's row again for a newer generation."""


class CorruptFile(VolumeUnavailable):
    """A file's length or hash is not what its reference says. It was not used."""


class VectorEngineUnavailable(AgentHubError):
    """The vector engine's server can't be reached, or doesn't answer in time; nothing that was visible changed."""


class ProviderFailure(AgentHubError):
    """An outside provider (embedding, model) failed, timed out or answered nonsense."""


class AddressRefused(AgentHubError):
    """An address from outside may not be fetched, or its server refuses for good: `status` is what it answered, if it was asked."""

    def __init__(self, message: str, *, status: int | None = None, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.status = status


class FetchFailed(AgentHubError):
    """An address from outside can't be fetched now: too slow, unreachable, or its server fails."""
