"""The operator's commands, as a shell runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from agenthub.registry import SERVICES
from agenthub.variables import VARIABLES


def run(tmp_path: Path, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE": "on"}
    return subprocess.run(
        [sys.executable, "-m", "agenthub.cli", *arguments],
        cwd=tmp_path,
        env={**base, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_migrate_may_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        done = run(tmp_path, "migrate")
        assert done.returncode == 0 and done.stdout.startswith("sqlite: schema revision "), done.stderr


def test_the_first_owner_is_made_once(tmp_path: Path) -> None:
    done = run(tmp_path, "owner", "--email", "a@example.com", "--password-stdin", stdin="a-long-test-password-1\n")
    assert (done.returncode, done.stdout) == (0, "a@example.com: created\n"), done.stderr
    again = run(tmp_path, "owner", "--email", "b@example.com", "--password-stdin", stdin="a-long-test-password-1\n")
    assert again.returncode == 1 and "already" in again.stderr


def test_a_refusal_is_one_message(tmp_path: Path) -> None:
    weak = run(tmp_path, "owner", "--email", "a@example.com", "--password-stdin", stdin="password\n")
    assert weak.returncode == 1 and "password" in weak.stderr and "Traceback" not in weak.stderr
    wrong = run(tmp_path, "migrate", DATABASE_URL="mysql://x/y")
    assert wrong.returncode == 1 and "mysql" in wrong.stderr and "Traceback" not in wrong.stderr


def test_services_and_variables_are_listed(tmp_path: Path) -> None:
    listed = run(tmp_path, "services").stdout
    assert all(service.name in listed for service in SERVICES)
    shown = run(tmp_path, "variables").stdout
    assert all(f"\n{variable.name}={variable.default}\n" in f"\n{shown}" for variable in VARIABLES)
