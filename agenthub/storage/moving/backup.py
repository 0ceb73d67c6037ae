"""A backup: all rows of one moment in one file that says of itself whether it is whole (docs/formats/backup.md)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from agenthub.core import json
from agenthub.core.errors import AgentHubError, InvalidInput, MalformedInput
from agenthub.core.ids import random_name
from agenthub.storage.contract import Row, RowReader, Table
from agenthub.storage.moving.canonical import Sum, Summing, content_sha256, encoded, plain, revived
from agenthub.storage.moving.filling import End, Filling
from agenthub.storage.moving.putting import batches
from agenthub.storage.moving.scanning import PAGE_ROWS, Progress, pages, unwatched

FORMAT: Final = 1
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
_KINDS: Final = frozenset({"header", "table", "row", "end", "footer"})


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup says of itself. `taken_at` is the moment whose rows it holds."""

    id: str
    taken_at: str
    version: str
    tables: Sequence[str]


@dataclass(frozen=True, slots=True)
class Contents:
    """A whole backup: its header, and what it holds of each table."""

    header: Header
    sums: Mapping[str, Sum]

    @property
    def content_sha256(self) -> str:
        """Equal for backups, and storages, with equal rows."""
        return content_sha256(self.sums)


def write_backup(
    path: Path, reader: RowReader, tables: Sequence[Table], taken_at: datetime, version: str, progress: Progress = unwatched
) -> Contents:
    """Write all rows to a new file that only its owner may read; it has its name only once it is whole and on disk.

    Raises: InvalidInput when the file exists or can't be written.
    """
    if path.exists():
        raise InvalidInput(f"{path} exists already")
    partial = path.with_name(f"{path.name}.{random_name()}.partial")
    header = Header(random_name(), taken_at.isoformat(), version, [table.name for table in tables])
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            contents = _written(file, header, reader, tables, progress)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)  # unlike a renaming, never over a file that somebody made meanwhile
        _sync_folder(path.parent)
    except OSError as error:
        raise InvalidInput(f"the backup can't be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return contents


def _written(file: BinaryIO, header: Header, reader: RowReader, tables: Sequence[Table], progress: Progress) -> Contents:
    out = _Out(file)
    shapes = {table.name: {column.name: column.type.value for column in table.columns} for table in tables}
    out.line(
        "header", {"agenthub_backup": FORMAT, "id": header.id, "taken_at": header.taken_at, "version": header.version, "tables": shapes}
    )
    sums: dict[str, Sum] = {}
    for table in tables:
        out.line("table", table.name)
        summing = Summing()
        for page in pages(reader, table):
            for row in page:
                summing.add(encoded(table, row))
                out.line("row", plain(table, row))
            progress(table.name, len(page))
        sums[table.name] = summing.sum
        out.line("end", {"table": table.name, "count": summing.sum.count, "sha256": summing.sum.sha256})
    contents = Contents(header, sums)
    out.line("footer", {"content_sha256": contents.content_sha256, "file_sha256": out.digest.hexdigest()})
    return contents


class _Out:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def line(self, kind: str, value: Any) -> None:
        data = json.canonical([kind, value]) + b"\n"
        self.digest.update(data)
        self._file.write(data)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading ---


class Backup:
    """A backup file, for these tables. Nothing in it is believed before `verified` has read it to its end."""

    def __init__(self, path: Path, tables: Sequence[Table]) -> None:
        self._path = path
        self._tables = {table.name: table for table in tables}

    def verified(self, progress: Progress = unwatched) -> Contents:
        """What it holds, every row and hash checked.

        Raises: InvalidInput or MalformedInput naming the line at fault.
        """
        with self._path.open("rb") as file:
            reading = _Reading(file, self._tables)
            try:
                for table, _ in reading.rows():
                    progress(table.name, 1)
                return reading.contents()
            except AgentHubError as error:
                raise InvalidInput(f"{self._path.name}, line {reading.number}: {error.message}") from error

    def rows(self) -> Iterator[tuple[Table, Row]]:
        """Every row, table by table, by key.

        Raises: as `verified`.
        """
        with self._path.open("rb") as file:
            yield from _Reading(file, self._tables).rows()


class _Reading:
    """One pass over a backup's lines."""

    def __init__(self, file: BinaryIO, tables: Mapping[str, Table]) -> None:
        self._file = file
        self._tables = tables
        self._digest = hashlib.sha256()
        self._sums: dict[str, Sum] = {}
        self._header: Header | None = None
        self._footer: Mapping[str, Any] = {}
        self.number = 0

    def rows(self) -> Iterator[tuple[Table, Row]]:
        self._header = self._read_header()
        for name in self._header.tables:
            table = self._tables[name]
            if self._line("table") != name:
                raise MalformedInput(f"this is not the table {name}")
            yield from ((table, row) for row in self._rows_of(table))
        before = self._digest.hexdigest()
        self._footer = _object(self._line("footer"))
        if self._footer.get("file_sha256") != before or self._footer.get("content_sha256") != content_sha256(self._sums):
            raise InvalidInput("the file was changed: its hash is not what it says")
        if self._file.read(1):
            raise MalformedInput("there is something after the end")

    def contents(self) -> Contents:
        """What was read. Raises: MalformedInput before the end was reached."""
        if self._header is None or not self._footer:
            raise MalformedInput("the file has no end")
        return Contents(self._header, self._sums)

    def _read_header(self) -> Header:
        value = _object(self._line("header"))
        if value.get("agenthub_backup") != FORMAT:
            raise InvalidInput(f"this is not a backup of format {FORMAT}")
        shapes = _object(value.get("tables"))
        unknown = [name for name in shapes if name not in self._tables]
        if unknown:
            raise InvalidInput(f"it holds tables that this release doesn't know: {', '.join(unknown)[:200]}")
        texts = [value.get(name) for name in ("id", "taken_at", "version")]
        if not all(isinstance(text, str) and 0 < len(text) <= 64 for text in texts):
            raise MalformedInput("the header is not complete")
        # In the order in which tables are filled, whatever order the file claims: their sections must come in it.
        return Header(str(texts[0]), str(texts[1]), str(texts[2]), [name for name in self._tables if name in shapes])

    def _rows_of(self, table: Table) -> Iterator[Row]:
        summing, last = Summing(), ""
        while True:
            kind, value = self._next()
            if kind == "end":
                break
            if kind != "row":
                raise MalformedInput(f"a {kind} inside of {table.name}")
            row = revived(table, _object(value))
            if row[table.key] <= last:
                raise InvalidInput(f"the rows of {table.name} are not in order")
            last = row[table.key]
            summing.add(encoded(table, row))
            yield row
        said = _object(value)
        if (said.get("table"), said.get("count"), said.get("sha256")) != (table.name, summing.count, summing.sum.sha256):
            raise InvalidInput(f"{table.name} is not what was written: its count or hash differs")
        self._sums[table.name] = summing.sum

    def _line(self, kind: str) -> Any:
        found, value = self._next()
        if found != kind:
            raise MalformedInput(f"a {found} where a {kind} belongs")
        return value

    def _next(self) -> tuple[str, Any]:
        data = self._file.readline(MAX_LINE_BYTES + 1)
        self.number += 1
        if len(data) > MAX_LINE_BYTES:
            raise InvalidInput("the line is too long")
        if not data.endswith(b"\n"):
            raise MalformedInput("the file ends in the middle")
        value = json.loads(data)
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str) or value[0] not in _KINDS:
            raise MalformedInput("this is not a line of a backup")
        self._digest.update(data)
        return value[0], value[1]


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedInput("this is not an object")
    return value


def restore(backup: Backup, contents: Contents, target: End, tables: Sequence[Table], progress: Progress = unwatched) -> Filling:
    """Fill an empty storage with a backup that was verified; killed and called again it goes on. The storage stays shut until
    `Filling.opened`.

    Raises: Conflict when the storage is not empty; VersionConflict when another process fills it.
    """
    filling = Filling(target, tables, contents.header.id, f"the backup of {contents.header.taken_at}")
    names = [table.name for table in tables]
    move = filling.begun()
    for table, page in _pages(backup):
        while move.phase == "copying" and names.index(move.table_name) < names.index(table.name):
            move = filling.table_done(move)
        if move.phase != "copying" or move.table_name != table.name:
            continue
        for batch in batches(table, [row for row in page if row[table.key] > move.after_key]):
            move = filling.batch(move, table, batch, None)
            progress(table.name, len(batch))
    while move.phase == "copying":
        move = filling.table_done(move)
    return filling


def _pages(backup: Backup) -> Iterator[tuple[Table, list[Row]]]:
    for _, rows in groupby(backup.rows(), key=lambda pair: pair[0].name):
        while page := list(islice(rows, PAGE_ROWS)):
            yield page[0][0], [row for _, row in page]
