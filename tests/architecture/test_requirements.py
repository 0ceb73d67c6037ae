"""What is imported is required by name, what is required is pinned, and what is pinned is hashed."""

from __future__ import annotations

import re
import sys
from importlib.metadata import packages_distributions

from tests.architecture.source import ROOT, imports_of, product, sources

PINNED = re.compile(r"([A-Za-z0-9_.-]+)==([A-Za-z0-9_.]+)")
# Several packages share this name; what we import of it is BigQuery's client with what it stands on.
NAMESPACES = {"google": "google-cloud-bigquery"}
# pydantic uses the first, openpyxl the second if it is there (against entity bombs); the third holds Swagger UI's files.
NOT_IMPORTED_BY_US = {"email-validator", "defusedxml", "flask-openapi-swagger", "async-timeout"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _required(name: str) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [PINNED.fullmatch(line) for line in lines if line and not line.startswith("-")]
    assert all(found), [line for line, match in zip(lines, found, strict=False) if not match]
    return {_normal(match[1]): match[2] for match in found if match}


def _locked(name: str) -> dict[str, str]:
    entries = (ROOT / name).read_text().split("\n", 1)
    text = "\n".join(entries)
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)
    locked = {}
    for block in blocks:
        head = PINNED.match(block)
        if head is None:
            assert block.startswith("#"), block
            continue
        assert "--hash=sha256:" in block, f"{head[0]} in {name} has no hash"
        locked[_normal(head[1])] = head[2]
    return locked


def _imported(paths: tuple[str, ...]) -> set[str]:
    distributions = packages_distributions()
    tops = {name.split(".")[0] for source in sources(*paths) for _, name in imports_of(source.tree)}
    foreign = tops - sys.stdlib_module_names - {"agenthub", "tests", "benchmarks", "config", "None"}
    return {NAMESPACES.get(top) or _normal(distributions[top][0]) for top in foreign}


def test_locks_hold_what_is_required() -> None:
    for name in ("requirements", "requirements-dev", "requirements-milvus"):
        locked = _locked(f"{name}.txt")
        assert {package: locked.get(package) for package in _required(f"{name}.in")} == _required(f"{name}.in")


def test_both_locks_agree() -> None:
    development = _locked("requirements-dev.txt")
    assert {package: development.get(package) for package in _locked("requirements.txt")} == _locked("requirements.txt")


def test_the_lock_of_the_milvus_client_fits_the_others() -> None:
    others = _locked("requirements.txt") | _locked("requirements-dev.txt")
    assert {name: version for name, version in _locked("requirements-milvus.txt").items() if others.get(name, version) != version} == {}
    assert "pymilvus" not in others  # heavy, and asked for by few


def test_locks_name_no_host_and_no_option() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-milvus.txt"):
        assert re.findall(r"^(?:-|.*(?:https?|file)://).*", (ROOT / name).read_text(), re.MULTILINE) == []


def test_what_the_product_imports_is_required_by_name() -> None:
    imported = _imported(("agenthub", "app.py", "wsgi.py", "config"))
    required = set(_required("requirements.in"))
    assert imported - required - set(_required("requirements-milvus.in")) == ALLOWED_INDIRECT | {"grpcio"}
    assert required - imported <= NOT_IMPORTED_BY_US


# Parts of Flask and pydantic that we call by their own name. (grpcio: its errors come through the client of Milvus.)
ALLOWED_INDIRECT = {"werkzeug", "click", "pydantic-core"}


def test_what_tests_import_is_required_by_name() -> None:
    required = {name for kind in ("", "-dev", "-milvus") for name in _required(f"requirements{kind}.in")}
    assert _imported(("tests", "benchmarks")) - required - ALLOWED_INDIRECT == set()


def test_every_import_of_the_product_is_of_an_installed_package() -> None:
    assert len(product()) > 100
