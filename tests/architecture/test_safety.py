"""Constructs that run or trust what comes from outside are nowhere in the product (design/RELIABILITY.md D2-25)."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source import imports_of, product

FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "shelve",
    "marshal",
    "joblib",
    "telnetlib",
    "ftplib",
    "xml.etree",
    "xml.dom",
    "xml.sax",
    "lxml",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "tempfile.mktemp"}
FORBIDDEN_METHODS = {"extractall", "extract"}
FORBIDDEN_ARGUMENTS = {("shell", True), ("allow_pickle", True), ("verify", False), ("check_hostname", False)}


def _calls() -> list[tuple[str, ast.Call]]:
    return [(source.at(node), node) for source in product() for node in ast.walk(source.tree) if isinstance(node, ast.Call)]


def test_no_module_that_revives_objects_or_reads_unguarded_xml_is_imported() -> None:
    found = {
        f"{source.at(statement)} {name}"
        for source in product()
        for statement, name in imports_of(source.tree)
        if any(name == module or name.startswith(f"{module}.") for module in FORBIDDEN_MODULES)
    }
    assert found == set()


def test_nothing_evaluates_text_or_starts_a_shell() -> None:
    assert [place for place, call in _calls() if ast.unparse(call.func) in FORBIDDEN_CALLS] == []


def test_no_archive_is_unpacked_by_its_own_names() -> None:
    assert [place for place, call in _calls() if isinstance(call.func, ast.Attribute) and call.func.attr in FORBIDDEN_METHODS] == []


@pytest.mark.parametrize(("argument", "value"), sorted(FORBIDDEN_ARGUMENTS))
def test_no_safety_is_switched_off(argument: str, value: bool) -> None:
    off = [
        place
        for place, call in _calls()
        for keyword in call.keywords
        if keyword.arg == argument and isinstance(keyword.value, ast.Constant) and keyword.value.value is value
    ]
    assert off == []


def test_numpy_files_are_never_loaded() -> None:
    """`numpy.load` may unpickle; arrays come from raw bytes or safetensors."""
    assert [place for place, call in _calls() if ast.unparse(call.func) in {"np.load", "numpy.load", "np.fromfile"}] == []
