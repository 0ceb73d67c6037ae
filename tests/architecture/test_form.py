"""Sizes, names and places of code."""

from __future__ import annotations

import ast
import re

from tests.architecture.source import FUNCTIONS, everything, imports_of, product, sources

LONGEST_FILE = 500
LONGEST_FUNCTION = 40
FORBIDDEN_WORDS = {"util", "utils", "helper", "helpers", "manager", "dao", "store", "stores"}
FORBIDDEN_FILES = FORBIDDEN_WORDS | {"common", "misc", "context"}
# Imports inside functions: the loaders, which import only the backend that was chosen.
LOADERS = {"agenthub/storage/open.py", "agenthub/cache/open.py"}
# Imports by a name: services, engines, kinds of jobs, embedders, parsers, and Alembic where a schema is behind.
LOADER_TABLES = {
    "agenthub/registry.py",
    "agenthub/resources.py",
    "agenthub/jobs/handlers.py",
    "agenthub/rag/embedding/local.py",
    "agenthub/rag/embedding/open.py",
    "agenthub/rag/parsing/read.py",
    "agenthub/storage/schema.py",
}
MIGRATIONS = "agenthub/storage/migrations/versions/"


def test_no_file_is_longer_than_500_lines() -> None:
    long = {source.path: length for source in everything() if (length := source.text.count("\n")) > LONGEST_FILE}
    assert long == {}


def test_no_function_is_longer_than_40_lines() -> None:
    long = [
        f"{source.at(node)} {node.name}: {length} lines"
        for source in everything()
        if not source.path.startswith(MIGRATIONS)  # a list of tables, written once
        for node in ast.walk(source.tree)
        if isinstance(node, FUNCTIONS) and (length := _own_lines(node)) > LONGEST_FUNCTION
    ]
    assert long == []


def _own_lines(function: ast.AST) -> int:
    """The lines of a function without those of the functions inside it."""
    lines = (getattr(function, "end_lineno", 0) or 0) - getattr(function, "lineno", 0) + 1
    inner = [node for node in ast.walk(function) if node is not function and isinstance(node, FUNCTIONS)]
    return lines - sum(
        (node.end_lineno or 0) - node.lineno + 1 for node in inner if not any(node is not other and _holds(other, node) for other in inner)
    )


def _holds(outer: ast.AST, inner: ast.AST) -> bool:
    return any(node is inner for node in ast.walk(outer))


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def test_files_are_named_after_what_they_hold() -> None:
    parts = [(source.path, part) for source in everything() for part in source.path.removesuffix(".py").split("/")]
    assert [(path, part) for path, part in parts if _words(part) & FORBIDDEN_FILES] == []


def test_classes_and_functions_are_named_after_what_they_do() -> None:
    named = [
        (source.at(node), node.name)
        for source in product()
        for node in ast.walk(source.tree)
        if isinstance(node, (ast.ClassDef, *FUNCTIONS))
    ]
    assert [(place, name) for place, name in named if _words(name) & FORBIDDEN_WORDS] == []


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    for source in sources("agenthub"):
        if source.path.endswith("__init__.py"):
            body = source.tree.body
            assert ast.get_docstring(source.tree), source.path
            rest = [ast.unparse(node) for node in body[1:]]
            assert all(line.startswith("__version__ = ") for line in rest) if source.path == "agenthub/__init__.py" else rest == [], (
                source.path
            )


def test_every_package_of_agenthub_has_an_init_and_no_test_folder_has() -> None:
    folders = {source.path.rpartition("/")[0] for source in sources("agenthub")}
    packages = {source.path.removesuffix("/__init__.py") for source in sources("agenthub") if source.path.endswith("__init__.py")}
    assert {folder for folder in folders - packages if not folder.endswith("/versions")} == set()  # Alembic reads versions as files
    assert [source.path for source in sources("tests") if source.path.endswith("__init__.py")] == []


def test_imports_stand_at_the_top() -> None:
    inside = {
        source.at(statement)
        for source in product()
        if source.path not in LOADERS
        for function in ast.walk(source.tree)
        if isinstance(function, FUNCTIONS)
        for statement, _ in imports_of(function)
    }
    assert inside == set()


def test_no_module_is_imported_by_a_computed_name_outside_the_loaders() -> None:
    users = {source.path for source in product() for _, name in imports_of(source.tree) if name == "importlib.import_module"}
    assert users == LOADER_TABLES
