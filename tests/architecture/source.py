"""The project's Python files, parsed once, as the tests of this folder look at them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """One file: its path from the root, text and syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """Its dotted name."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def at(self, node: ast.AST) -> str:
        """`path:line` of a node, for messages."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """The Python files of these folders or files below the root; none is an error."""
    paths = [path for folder in folders for path in _python_files(ROOT / folder)]
    assert paths, folders
    texts = [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in sorted(paths)]
    return tuple(Source(path, text, ast.parse(text)) for path, text in texts)


def _python_files(place: Path) -> list[Path]:
    return [place] if place.is_file() else list(place.rglob("*.py"))


def product() -> tuple[Source, ...]:
    """All that runs in production."""
    return sources("agenthub", "app.py", "wsgi.py", "config")


def everything() -> tuple[Source, ...]:
    """All Python files of ours."""
    return sources("agenthub", "app.py", "wsgi.py", "config", "benchmarks", "tests")


def imports_of(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Every import below a node with the full name of what it names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)
