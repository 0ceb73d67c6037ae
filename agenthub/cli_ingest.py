"""`python -m agenthub.cli ingest FOLDER`: a folder into a knowledge base of any deployment; what is there already is not sent."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from tqdm import tqdm

from agenthub.cli_api import Api, ServerRefusal
from agenthub.cli_folder import LocalFile, files_of
from agenthub.core.ids import is_id
from agenthub.core.json import dumps

SOME_FAILED: Final = 3
"""Exit status when some files did not become documents; 0 when all did, 1 when the command could not do its work."""
_PAGE: Final = 1_000
_BATCH_FILES: Final = 25
_BATCH_BYTES: Final = 8_000_000
_ROUNDS: Final = 3
_POLL_SECONDS: Final = 0.5

Settled = Callable[[int], None]
"""Told how many more files have a final result."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A document whose file is no longer in the folder."""

    source: str
    document_id: str
    sha256: str


@dataclass(slots=True)
class Found:
    """What the deployment said of the folder: which files it needs, and which documents have no file any more."""

    needed: list[LocalFile] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file: `added`, `replaced`, `unchanged` or `failed` with the reason."""

    source: str
    outcome: str
    reason: str = ""


class FolderSync:
    """Brings one knowledge base to what a folder holds. Stopped at any point, the next run goes on from there."""

    def __init__(self, api: Api, knowledge_base_id: str, prefix: str, parallel: int, sleep: Callable[[float], None] = time.sleep) -> None:
        self._api = api
        self._path = f"/api/knowledge-bases/{knowledge_base_id}/documents"
        self._prefix = prefix
        self._parallel = parallel
        self._sleep = sleep

    def compare(self, files: Sequence[LocalFile]) -> Found:
        """What there is to do. `files` are in the order of their sources."""
        found = Found()
        pages = [files[start : start + _PAGE] for start in range(0, len(files), _PAGE)] or [[]]
        after: str | None = None
        for number, page in enumerate(pages):
            through = page[-1].source if number < len(pages) - 1 else None
            items = [{"source": file.source, "sha256": file.sha256} for file in page]
            within = {"prefix": self._prefix, "after": after, "through": through}
            answer = self._api.post(f"{self._path}/sync", {"items": items, "gone_within": within})
            needed = {item["source"] for item in answer["items"] if item["state"] == "needed"}
            found.needed += [file for file in page if file.source in needed]
            found.gone += [Gone(one["source"], one["document_id"], one["sha256"]) for one in answer["gone"]]
            after = through
        return found

    def upload(self, files: Sequence[LocalFile], settled: Settled) -> Iterator[Result]:
        """Upload the files, some at a time, and wait until each is a document or can't be one."""
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="ingest") as pool:
            for done in as_completed([pool.submit(self._upload_batch, batch, settled) for batch in _batches(files)]):
                yield from done.result()

    def delete(self, gone: Sequence[Gone]) -> None:
        """Delete documents whose files are gone."""
        for start in range(0, len(gone), _PAGE):
            try:
                self._api.post(f"{self._path}/delete", {"ids": [one.document_id for one in gone[start : start + _PAGE]]})
            except ServerRefusal as refusal:
                if refusal.status != 404:  # somebody else was faster
                    raise

    def _upload_batch(self, batch: Sequence[LocalFile], settled: Settled) -> list[Result]:
        sent = [(file.path.name, file.path) for file in batch]
        try:
            answer = self._api.upload(f"{self._path}?wait=0", sent, {"sources": dumps([file.source for file in batch]).decode()})
        except (ServerRefusal, OSError) as error:
            if isinstance(error, ServerRefusal) and error.status in (401, 403, 404):
                raise
            settled(len(batch))
            return [Result(file.source, "failed", str(error)) for file in batch]
        job_id = answer["job"]["id"]
        self._wait(job_id, settled)
        return [_result(file, item) for file, item in zip(batch, self._api.pages(f"/api/jobs/{job_id}/items"), strict=True)]

    def _wait(self, job_id: str, settled: Settled) -> None:
        """Return when the job has ended, whatever becomes of it."""
        done = 0
        while True:
            job = self._api.get(f"/api/jobs/{job_id}")
            now = job["progress"]["done"]
            settled(now - done)
            done = now
            if job["finished_at"] is not None:
                settled(job["progress"]["total"] - done)
                return
            self._sleep(_POLL_SECONDS)


def _batches(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    batch: list[LocalFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) == _BATCH_FILES or size + file.size_bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size_bytes
    if batch:
        yield batch


def _result(file: LocalFile, item: Mapping[str, Any]) -> Result:
    status = item["status"]
    if status == "done":
        return Result(file.source, "replaced" if item["action"] == "replace" else "added")
    if status == "skipped" and not item["error"]:
        return Result(file.source, "unchanged", "the same content is in the knowledge base already")
    return Result(file.source, "failed", str((item["error"] or {}).get("message", f"it was left {status}")))


@click.command("ingest")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True))
@click.option("--url", default="http://127.0.0.1:5000", show_default=True, help="The deployment.")
@click.option("--knowledge-base", "wanted", required=True, metavar="ID|NAME", help="The knowledge base, by its id or its name.")
@click.option("--prefix", help="What the sources begin with; the folder's name and a slash if left out.")
@click.option("--include", multiple=True, metavar="GLOB", help="Only files that match, such as '*.md'. May be repeated.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="No files that match. May be repeated.")
@click.option("--delete-missing", is_flag=True, help="Delete documents of this prefix whose files are gone.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--parallel", type=click.IntRange(1, 16), default=4, show_default=True, help="Requests at the same time.")
def ingest_command(folder: Path, url: str, wanted: str, prefix: str | None, parallel: int, **options: Any) -> None:
    """Bring a knowledge base to what FOLDER holds. Only what is new or changed is sent; safe to stop and to repeat.

    The token, an API key or a session's, is read from AGENTHUB_TOKEN. Exit status 0: every file is a document. 3: some are not; the
    reasons are printed. 1: the command could not do its work.
    """
    token = os.environ.get("AGENTHUB_TOKEN", "").strip()
    if not token:
        raise click.ClickException("AGENTHUB_TOKEN is not set: give an API key or a session token there, never on the command line")
    with closing(Api(url, token)) as api:
        start = f"{folder.name}/" if prefix is None else prefix
        run = FolderSync(api, _knowledge_base(api, wanted), start, parallel)
        failed = _ingest(run, folder, start, **options)
    sys.exit(SOME_FAILED if failed else 0)


def _knowledge_base(api: Api, wanted: str) -> str:
    if is_id(wanted):
        return str(api.get(f"/api/knowledge-bases/{wanted}")["id"])
    key = " ".join(wanted.split()).casefold()
    for base in api.pages("/api/knowledge-bases"):
        if " ".join(base["name"].split()).casefold() == key:
            return str(base["id"])
    raise click.ClickException(f"no knowledge base is called {wanted!r}")


def _ingest(
    run: FolderSync, folder: Path, prefix: str, *, include: Sequence[str], exclude: Sequence[str], delete_missing: bool, dry_run: bool
) -> bool:
    """Do the work; whether something failed."""
    files, unreadable = files_of(folder, prefix, include, exclude)
    found = run.compare(files)
    for one in unreadable:
        click.echo(f"failed     {one.source}: {one.reason}")
    if dry_run:
        _say_plan(found, delete_missing=delete_missing)
        return bool(unreadable)
    results = _uploaded(run, files, found.needed)
    deleted = _deletable(files, found.gone) if delete_missing and not unreadable else []
    run.delete(deleted)
    for gone in deleted:
        click.echo(f"deleted    {gone.source}")
    _summarize(files, results, deleted, len(unreadable))
    return bool(unreadable) or any(result.outcome == "failed" for result in results.values())


def _uploaded(run: FolderSync, files: Sequence[LocalFile], needed: Sequence[LocalFile]) -> dict[str, Result]:
    """The results by source. Afterwards the deployment is asked again, for what one file's change took from another with its content."""
    results: dict[str, Result] = {}
    for _ in range(_ROUNDS):
        if not needed:
            break
        with tqdm(total=len(needed), unit="file", disable=None) as bar:
            for result in run.upload(needed, lambda count: bar.update(count) and None):
                results[result.source] = result
                if result.outcome != "unchanged":
                    bar.write(f"{result.outcome:10} {result.source}" + (f": {result.reason}" if result.reason else ""), file=sys.stdout)
        failed = {source for source, result in results.items() if result.outcome == "failed"}
        needed = [file for file in run.compare(files).needed if file.source not in failed]
    return results


def _deletable(files: Sequence[LocalFile], gone: Sequence[Gone]) -> list[Gone]:
    """Without those whose content a file of another name still has: there is one document of a content."""
    contents = {file.sha256 for file in files}
    return [one for one in gone if one.sha256 not in contents]


def _say_plan(found: Found, *, delete_missing: bool) -> None:
    for file in found.needed:
        click.echo(f"upload     {file.source}")
    for gone in found.gone if delete_missing else ():
        click.echo(f"delete     {gone.source}")
    click.echo(f"{len(found.needed)} to upload, {len(found.gone)} without a file; nothing was done")


def _summarize(files: Sequence[LocalFile], results: Mapping[str, Result], deleted: Sequence[Gone], unreadable: int) -> None:
    counts = dict.fromkeys(("added", "replaced", "unchanged", "failed"), 0)
    for result in results.values():
        counts[result.outcome] += 1
    counts["unchanged"] += len(files) - len(results)
    counts["failed"] += unreadable
    click.echo(", ".join(f"{count} {outcome}" for outcome, count in (*counts.items(), ("deleted", len(deleted)))))
