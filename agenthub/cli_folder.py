"""The files of a folder as sources: their names from there on, and the hashes of their contents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

_PIECE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that is to be in the knowledge base under its source."""

    source: str
    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that can't be read here, and why."""

    source: str
    reason: str


def files_of(folder: Path, prefix: str, include: Sequence[str], exclude: Sequence[str]) -> tuple[list[LocalFile], list[Unreadable]]:
    """The files below a folder in the order of their sources. Hidden files and folders, links and empty files are left out.

    Patterns such as `*.md` or `drafts/*` are of the path below the folder; a file has to match one of `include`, if there are any,
    and none of `exclude`.
    """
    found: list[LocalFile] = []
    failed: list[Unreadable] = []
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if (include and not _matches(name, include)) or _matches(name, exclude):
            continue
        source = prefix + name
        try:
            sha256, size = _hashed(path)
            source.encode()
        except (OSError, UnicodeEncodeError) as error:
            failed.append(Unreadable(ascii(source)[1:-1], str(error)))
            continue
        if size:
            found.append(LocalFile(source, path, sha256, size))
    return sorted(found, key=lambda file: file.source), failed


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(here, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _matches(name: str, patterns: Sequence[str]) -> bool:
    last = name.rpartition("/")[2]
    return any(fnmatchcase(name, pattern) or fnmatchcase(last, pattern) for pattern in patterns)


def _hashed(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size
