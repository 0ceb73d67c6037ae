"""What BigQuery and the way to it can answer, as what the backend does about it."""

from __future__ import annotations

import concurrent.futures
import re
from typing import Final

from google.api_core import exceptions as api
from google.auth import exceptions as auth

from agenthub.core.errors import AgentHubError, InvalidInput, StorageUnavailable, TooManyWrites
from agenthub.storage.outage import RETRY_AFTER_SECONDS

QUOTA_RETRY_SECONDS: Final = 10.0
BUSY_RETRY_SECONDS: Final = 5.0
MOVED: Final = "agenthub-turn-moved"
"""The message with which a commit's script gives up because another commit came first."""


WRONG_COUNT: Final = "agenthub-wrong-row-count"
"""The message with which it gives up because a statement met another number of rows than the keys that were read."""


class Failure(Exception):
    """A passing failure: nothing was applied, and the same may work when it is tried again."""

    pause_seconds = 0.02
    """Trying again waits up to this, doubled with each try."""

    def final(self) -> AgentHubError:
        """What the caller gets when trying again is over."""
        return StorageUnavailable("other writers kept coming first", retry_after_seconds=RETRY_AFTER_SECONDS)


class Moved(Failure):
    """Another commit came first."""

    pause_seconds = 0.25
    """A good part of what a commit takes: racing processes that try again at once mostly make one another lose."""

    def final(self) -> AgentHubError:
        return TooManyWrites(
            "other writers kept coming first: BigQuery commits one after the other", retry_after_seconds=BUSY_RETRY_SECONDS
        )


class Contended(Failure):
    """BigQuery cancelled this transaction in favour of another one."""

    pause_seconds = 0.1


class Throttled(Failure):
    """A quota or a queue of BigQuery is full."""

    pause_seconds = 1.0

    def final(self) -> AgentHubError:
        return StorageUnavailable("BigQuery's quota is used up for the moment", retry_after_seconds=QUOTA_RETRY_SECONDS)


class Lost(Failure):
    """No answer came, or one that says nothing. What was sent may have been done, or may yet be.

    `away`: nobody seems to be there, so others need not try for a moment.
    """

    pause_seconds = 0.2

    def __init__(self, message: str, *, away: bool) -> None:
        super().__init__(message)
        self.away = away

    def final(self) -> AgentHubError:
        return StorageUnavailable("BigQuery can't be reached in time", retry_after_seconds=RETRY_AFTER_SECONDS)


class Broken(Failure):
    """A job ended by an error of BigQuery's own. It does nothing any more; whether it did, the turn tells."""

    pause_seconds = 0.5

    def final(self) -> AgentHubError:
        return StorageUnavailable("BigQuery failed", retry_after_seconds=RETRY_AFTER_SECONDS)


class Repeated(Exception):
    """A job with this id exists: an earlier request did arrive."""


_QUOTA_REASONS: Final = frozenset({"rateLimitExceeded", "quotaExceeded", "jobRateLimitExceeded", "userRateLimitExceeded"})
_LOST_REASONS: Final = frozenset({"backendError", "internalError", "jobBackendError", "jobInternalError", "tableUnavailable", "timeout"})
_QUOTA: Final = re.compile(r"too many (dml|table|queued)|exceeded (rate|your) |quota exceeded|resources exceeded during job", re.IGNORECASE)
_CONTENDED: Final = re.compile(
    # The last is the emulator's.
    r"due to concurrent update|could not serialize|transaction conflict|concurrent (dml|transaction)|failed to commit",
    re.IGNORECASE,
)


def translated(error: Exception) -> Exception:
    """The client's error as ours: a `Failure`, `Repeated`, or an AgentHubError; an error of another kind as it is."""
    if isinstance(error, api.GoogleAPICallError):
        return _answered(error)
    if isinstance(error, auth.TransportError):
        return Lost(_first_line(error), away=True)
    if isinstance(error, auth.GoogleAuthError):
        return StorageUnavailable(f"the credentials for BigQuery don't work: {_first_line(error)}", retry_after_seconds=QUOTA_RETRY_SECONDS)
    if isinstance(error, concurrent.futures.TimeoutError | api.RetryError | ValueError):
        return Lost(_first_line(error), away=False)  # a ValueError: an answer that was cut off is not JSON
    if isinstance(error, OSError):  # what the HTTP client raises when nobody answers
        return Lost(_first_line(error), away=True)
    return error


def _answered(error: api.GoogleAPICallError) -> Exception:
    return classified(
        str(error.message or error), {str(part.get("reason")) for part in error.errors if isinstance(part, dict)}, error.code or 500
    )


def classified(text: str, reasons: set[str], code: int) -> Exception:
    """An answer of BigQuery, of a call or of a job, as what the backend does about it."""
    line = text.strip().partition("\n")[0][:300]
    if MOVED in text:
        return Moved(MOVED)
    if _CONTENDED.search(text):
        return Contended(line)
    if reasons & _QUOTA_REASONS or code == 429 or _QUOTA.search(text):
        return Throttled(line)
    if code == 409:
        return Repeated(line)
    if reasons & _LOST_REASONS or code >= 500:
        return Lost(line, away=False)
    return _refused(line, reasons, code)


def _refused(line: str, reasons: set[str], code: int) -> AgentHubError:
    if WRONG_COUNT in line:
        return StorageUnavailable("a table of the dataset holds a key twice, or was changed by hand: nothing was written")
    if "bytesBilledLimitExceeded" in reasons or "bytes billed" in line:
        return _unavailable(f"a query would read more than AGENTHUB_BIGQUERY_MAX_BYTES allows: {line}")
    if code == 404 or "notFound" in reasons or "Unrecognized name" in line:
        return _unavailable(f"the dataset lacks a table or column of this release, run `make migrate`: {line}")
    if code == 403 or "accessDenied" in reasons:
        return _unavailable(f"BigQuery denies access; the account needs the roles Data Editor and Job User: {line}")
    if code == 413 or "too large" in line or "payload size" in line:
        return InvalidInput("the values are more than BigQuery takes in one statement")
    return StorageUnavailable(f"BigQuery refused a statement: {line}", retry_after_seconds=RETRY_AFTER_SECONDS)


def _unavailable(message: str) -> StorageUnavailable:
    return StorageUnavailable(message, retry_after_seconds=60.0)


def _first_line(error: Exception) -> str:
    text = error.message if isinstance(error, api.GoogleAPICallError) else str(error)
    return str(text).strip().partition("\n")[0][:300] or type(error).__name__
