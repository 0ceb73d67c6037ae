"""One process's line to BigQuery: statements in, rows or a `Failure` out, each within a time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from agenthub.core.errors import AgentHubError, StorageUnavailable
from agenthub.storage.bigquery.failures import Broken, Failure, Lost, Repeated, classified, translated
from agenthub.storage.bigquery.values import Parameter
from agenthub.storage.configuration import BigQuerySettings
from agenthub.storage.outage import Outage

NO_RETRY: Final[Any] = None
"""The client's own retries go on for minutes; ours know what was done."""

CALL_SECONDS: Final = 10.0
"""One HTTP call; a statement that takes longer is asked after again."""


class Line:
    """Runs statements in the dataset. Safe to use from many threads; connects on first use, and anew in a forked child.

    Every call has a deadline; the client's own retries, which go on for minutes, are off.
    """

    def __init__(self, settings: BigQuerySettings) -> None:
        self.settings = settings
        self.dataset = f"{settings.project}.{settings.dataset}"
        self._lock = threading.Lock()
        self._opened: tuple[int, bigquery.Client] | None = None
        self._outage = Outage()
        self._broken = 0

    def end(self) -> float:
        """When an operation that begins now must be over, on the monotonic clock."""
        return time.monotonic() + self.settings.timeout_seconds

    def rows(self, text: str, parameters: Sequence[Parameter], end: float) -> list[dict[str, Any]]:
        """The rows of a read, as the client gives their values.

        Raises: Failure; AgentHubError when trying again is of no use.
        """
        with self._asking():
            found = self.client().query_and_wait(
                text,
                job_config=self._configuration(parameters),
                api_timeout=_call_seconds(end),
                wait_timeout=max(0.1, end - time.monotonic()),
                retry=NO_RETRY,
                job_retry=NO_RETRY,
            )
            return [dict(row.items()) for row in found]

    def run(self, job_id: str, text: str, parameters: Sequence[Parameter], end: float) -> None:
        """Run a script as a job of this id; when that job exists already, only wait for it. Returns when it is done.

        Raises: Lost when it may or may not be done, or yet be; Broken when it ended by an error of BigQuery's own; another
        Failure or AgentHubError when it has had no effect and will have none.
        """
        with self._asking():
            job = self._submitted(job_id, text, parameters, end)
            try:
                with _translating():
                    job.result(timeout=max(0.1, end - time.monotonic()), retry=NO_RETRY, job_retry=NO_RETRY)
            except (Failure, AgentHubError) as failure:
                # This may be about the waiting, not about the job: only the job itself can say what became of it.
                error = self._verdict(job_id, end, failure)
                if error is not None:
                    raise error from failure

    def _submitted(self, job_id: str, text: str, parameters: Sequence[Parameter], end: float) -> bigquery.QueryJob:
        try:
            with _translating():
                return self.client().query(
                    text,
                    job_id=job_id,
                    job_config=self._configuration(parameters),
                    timeout=_call_seconds(end),
                    retry=NO_RETRY,
                    job_retry=NO_RETRY,
                )
        except Repeated:
            return self._known(job_id, end)

    def _verdict(self, job_id: str, end: float, failure: Exception) -> Exception | None:
        """The error that a finished job ended with, or None; raises Lost when it isn't finished or can't be asked."""
        try:
            with _translating():
                job = self._known(job_id, end)
        except (Failure, AgentHubError) as error:
            raise Lost(str(error), away=isinstance(error, Lost) and error.away) from failure
        if job.state != "DONE":
            raise Lost("the job goes on", away=False) from failure
        if not job.error_result:
            return None
        ended = classified(str(job.error_result.get("message")), {str(job.error_result.get("reason"))}, 400)
        return Broken(str(ended)) if isinstance(ended, Lost) else ended

    def _known(self, job_id: str, end: float) -> bigquery.QueryJob:
        try:
            job = self.client().get_job(job_id, timeout=_call_seconds(end), retry=NO_RETRY)
        except NotFound as error:  # for a moment a job may exist for those who make it and not for those who ask
            raise Lost("a job that exists can't be seen yet", away=False) from error
        if not isinstance(job, bigquery.QueryJob):
            raise TypeError(f"the job {job_id} is no query")
        return job

    def cancel(self, job_id: str) -> None:
        """Ask that the job be stopped; it may be done by then."""
        with self._asking():
            self.client().cancel_job(job_id, timeout=CALL_SECONDS, retry=NO_RETRY)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            self._outage.check()
        except StorageUnavailable as error:
            raise Lost(error.message, away=True) from error
        try:
            with _translating():
                yield
        except Failure as failure:
            self._note(away=isinstance(failure, Lost) and failure.away)
            raise
        self._note(away=False)

    def _note(self, *, away: bool) -> None:
        """One broken connection is tried again at once; a second one in a row says that nobody is there."""
        self._broken = self._broken + 1 if away else 0
        if self._broken > 1:
            self._outage.failed()
        elif not away:
            self._outage.recovered()

    def _configuration(self, parameters: Sequence[Parameter]) -> bigquery.QueryJobConfig:
        return bigquery.QueryJobConfig(
            query_parameters=list(parameters),
            default_dataset=self.dataset,
            # Rows change under it, and what is kept here belongs to others' questions.
            use_query_cache=False,
            maximum_bytes_billed=self.settings.max_bytes,
            job_timeout_ms=round(self.settings.timeout_seconds * 1000),
            labels={"application": "agenthub"},
        )

    def client(self) -> bigquery.Client:
        """This process's client.

        Raises: google.auth's errors when there are no credentials.
        """
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = os.getpid(), self._open()
            return self._opened[1]

    def _open(self) -> bigquery.Client:
        settings = self.settings
        if settings.endpoint is None:
            return bigquery.Client(project=settings.project, location=settings.location)
        anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
        options = ClientOptions(api_endpoint=settings.endpoint)
        return bigquery.Client(project=settings.project, location=settings.location, credentials=anonymous, client_options=options)

    def renew_after_fork(self) -> None:
        """Leave the parent's connections and locks to the parent."""
        self._parents = self._opened  # kept, so that nothing of it is ever closed from here
        self._lock, self._opened, self._outage = threading.Lock(), None, Outage()

    def close(self) -> None:
        """Close this process's connections."""
        with self._lock:
            if self._opened is not None and self._opened[0] == os.getpid():
                self._opened[1].close()  # type: ignore[no-untyped-call]
            self._opened = None


def _call_seconds(end: float) -> float:
    return max(0.1, min(CALL_SECONDS, end - time.monotonic()))


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        ours = translated(error)
        if ours is error:
            raise
        raise ours from error
