"""One reader of the environment, one list of its variables, and files that agree with it."""

from __future__ import annotations

import ast
import re

from click.testing import CliRunner

from agenthub.cli import cli
from agenthub.settings import VARIABLES
from tests.architecture.source import ROOT, product

# Entry points, which hand the environment to Settings, and what must be decided before the application is imported.
READERS = {
    "app.py",
    "wsgi.py",
    "agenthub/cli.py",
    "agenthub/cli_cache.py",
    "agenthub/cli_storage.py",
    "agenthub/cli_ingest.py",
    "agenthub/cli_knowledge.py",
    "agenthub/cli_upkeep.py",
    "agenthub/cli_warehouse.py",
    "agenthub/cli_worker.py",
    "config/gunicorn.py",
}
OF_GUNICORN = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GUNICORN_PID"}


def _reads_environment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.environb", "os.getenv"}


def test_only_entry_points_touch_the_environment() -> None:
    assert {source.path for source in product() if any(_reads_environment(node) for node in ast.walk(source.tree))} == READERS


def test_every_variable_that_gunicorn_reads_is_in_the_list() -> None:
    named = {
        node.value
        for source in product()
        if source.path == "config/gunicorn.py"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", node.value)
    }
    assert named - OF_GUNICORN <= {variable.name for variable in VARIABLES}


def test_the_example_lists_every_variable_in_the_words_of_the_list() -> None:
    printed = CliRunner().invoke(cli, ["variables"])
    head, _, variables = (ROOT / "config/example.env").read_text().partition("\n\n")
    assert all(line.startswith("#") for line in head.splitlines())
    assert variables.rstrip("\n") == printed.output.rstrip("\n")


def test_secrets_have_no_default() -> None:
    assert [variable.name for variable in VARIABLES if variable.secret and variable.default] == []


def test_deployment_files_name_known_variables_only() -> None:
    known = {variable.name for variable in VARIABLES}
    manifest = (ROOT / "deploy/cloudrun.yaml").read_text()
    set_there = set(re.findall(r"- name: ([A-Z][A-Z0-9_]+)$", manifest, re.MULTILINE))
    assert set_there
    assert set_there <= known
    image = set(re.findall(r"^ENV ((?:AGENTHUB_|PROMETHEUS_)[A-Z0-9_]+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert image <= known
