"""A backup is one moment, says when it is damaged, and fills any backend with equal rows."""

from __future__ import annotations

import json
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from agenthub.core.errors import AgentHubError, Conflict, InvalidInput
from agenthub.storage.contract import Delete, Insert, Storage
from agenthub.storage.moving.backup import Backup, Contents, restore, write_backup
from agenthub.storage.moving.canonical import content_sha256
from agenthub.storage.moving.filling import End
from agenthub.storage.moving.scanning import summed
from tests.contracts.storage.tables import EVERYTHING, THINGS, A, thing
from tests.storage.moving.conftest import Make, populate


def backed_up(storage: Storage, path: Path) -> Contents:
    with storage.at_one_moment() as moment:
        return write_backup(path, moment, EVERYTHING, storage.now(), "test")


def content(storage: Storage) -> str:
    return content_sha256(summed(storage, EVERYTHING))


@pytest.mark.parametrize(("here", "there"), [("memory", "postgresql"), ("postgresql", "sqlite"), ("sqlite", "memory")])
def test_it_fills_another_backend_with_equal_rows(make: Make, tmp_path: Path, here: str, there: str) -> None:
    source, target, path = make(here, "source"), make(there, "target"), tmp_path / "rows.backup"
    populate(source, 1100)
    with source.at_one_moment() as moment:
        expected = content(source)
        source.commit([Insert(THINGS, thing("later"))])  # the moment is before this
        write_backup(path, moment, EVERYTHING, source.now(), "test")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    contents = Backup(path, EVERYTHING).verified()
    assert contents.content_sha256 == expected
    filling = restore(Backup(path, EVERYTHING), contents, End(target, "there"), EVERYTHING)
    assert content(target) == expected
    restore(Backup(path, EVERYTHING), contents, End(target, "there"), EVERYTHING)  # as after a kill: nothing is added twice
    filling.opened()
    assert content(target) == expected
    target.commit([Insert(THINGS, thing("open")), Delete(THINGS, A, "open")])
    with pytest.raises(Conflict, match="not empty"):
        restore(Backup(path, EVERYTHING), contents, End(target, "there"), EVERYTHING)
    with pytest.raises(InvalidInput, match="exists"):
        backed_up(source, path)
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".partial")] == []


def test_a_damaged_or_hostile_file_is_refused_at_its_line(make: Make, tmp_path: Path) -> None:
    source, path = make("memory"), tmp_path / "rows.backup"
    populate(source, 30)
    backed_up(source, path)
    lines = path.read_bytes().splitlines(keepends=True)
    row = json.loads(lines[5])

    def line(value: object) -> bytes:
        return json.dumps(value).encode() + b"\n"

    damages = {
        "the end is missing": lines[:-1],
        "half a line": [*lines[:-1], lines[-1][:-5]],
        "a row is missing": [*lines[:5], *lines[6:]],
        "a row twice": [*lines[:6], *lines[5:]],
        "rows swapped": [*lines[:5], lines[6], lines[5], *lines[7:]],
        "a changed value": [*lines[:5], line(["row", row[1] | {"number": 42}]), *lines[6:]],
        "another column": [*lines[:5], line(["row", row[1] | {"evil": 1}]), *lines[6:]],
        "a wrong type": [*lines[:5], line(["row", row[1] | {"made_at": 5}]), *lines[6:]],
        "another kind of line": [*lines[:5], line(["exec", "x"]), *lines[6:]],
        "no JSON": [*lines[:5], b"{{{\n", *lines[6:]],
        "deep JSON": [*lines[:5], b"[" * 5000 + b"\n", *lines[6:]],
        "another format": [line(["header", {"agenthub_backup": 2}]), *lines[1:]],
        "an unknown table": [line(["header", json.loads(lines[0])[1] | {"tables": {"passwd": {}}}]), *lines[1:]],
        "something after the end": [*lines, b"more\n"],
        "nothing": [],
    }
    taken = []
    for name, damaged in damages.items():
        path.write_bytes(b"".join(damaged))
        with suppress(AgentHubError):
            Backup(path, EVERYTHING).verified()
            taken.append(name)
    assert taken == []
    for position in range(0, len(b"".join(lines)), 997):  # a flipped bit anywhere
        whole = bytearray(b"".join(lines))
        whole[position] ^= 1
        path.write_bytes(whole)
        with pytest.raises(AgentHubError):
            Backup(path, EVERYTHING).verified()
