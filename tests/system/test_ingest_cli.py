"""A folder of real files goes in by the command line; a second run changes nothing, an edit replaces one document."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agenthub.cli import cli
from agenthub.core.errors import AgentHubError
from tests.servers.agenthub_server import ROOT, AgentHubServer, Remote

DOCUMENTS = ROOT.parent / "shared" / "data" / "documents"
OWNER = ("owner@example.com", "correct horse battery staple")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHubServer]:
    folder = tmp_path_factory.mktemp("ingest")
    with AgentHubServer(folder, AGENTHUB_OWNER_EMAIL=OWNER[0], AGENTHUB_OWNER_PASSWORD=OWNER[1], WEB_CONCURRENCY="1") as running:
        yield running


@pytest.fixture
def remote(server: AgentHubServer) -> Remote:
    return Remote(server.url).login(*OWNER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shared documents, some more in folders, and what must not go in."""
    root = tmp_path / "library"
    shutil.copytree(DOCUMENTS, root)
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    root.chmod(0o755)
    (root / "notes").mkdir()
    (root / "notes" / "copy of aristotle.txt").write_bytes((root / "aristotle.txt").read_bytes())
    (root / "notes" / "otters.md").write_text("# Otters\n\nOtters hold hands while they sleep.\n")
    (root / ".hidden.txt").write_text("hidden")
    (root / "empty.txt").touch()
    (root / "link.txt").symlink_to("/etc/passwd")
    return root


def ingest(server: AgentHubServer, token: str | None, folder: Path, base: str, *options: str) -> tuple[int, str]:
    """The exit status and what was printed."""
    command = [sys.executable, "-m", "agenthub.cli", "ingest", str(folder), "--url", server.url, "--knowledge-base", base, *options]
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    if token:
        environment["AGENTHUB_TOKEN"] = token
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, done.stdout + done.stderr


def ingest_here(server: AgentHubServer, token: str | None, folder: Path, base: str, *options: str) -> tuple[int, str]:
    """As `ingest`, in this process: starting one takes seconds."""
    arguments = ["ingest", str(folder), "--url", server.url, "--knowledge-base", base, *options]
    done = CliRunner().invoke(cli, arguments, env={"AGENTHUB_TOKEN": token or ""})
    if isinstance(done.exception, AgentHubError):  # what `main` makes one message of
        return 1, done.exception.message
    return done.exit_code, done.output


def documents(remote: Remote, base: str) -> dict[str, dict[str, Any]]:
    listed = remote.get(f"/api/knowledge-bases/{base}/documents?limit=200")["items"]
    return {one["source"]: one for one in listed}


def test_a_folder_goes_in_once_and_then_only_what_changes(server: AgentHubServer, remote: Remote, folder: Path) -> None:
    base = remote.post("/api/knowledge-bases", {"name": "Library"}, 201)["id"]
    status, said = ingest(server, remote.token, folder, "library", "--exclude", "NOTICE")
    assert status == 3, said  # the scan without text
    assert "failed     library/scanned-no-text.pdf: the PDF has 1 page and no text" in said
    assert "8 added, 0 replaced, 1 unchanged, 1 failed, 0 deleted" in said
    first = documents(remote, base)
    assert set(first) == {
        *(f"library/{path.name}" for path in DOCUMENTS.iterdir() if path.name not in ("NOTICE", "scanned-no-text.pdf")),
        "library/notes/otters.md",
    }
    generation = remote.get(f"/api/knowledge-bases/{base}")["generation"]

    (folder / "scanned-no-text.pdf").unlink()
    status, said = ingest(server, remote.token, folder, base, "--exclude", "NOTICE")
    assert (status, said.splitlines()[-1]) == (0, "0 added, 0 replaced, 9 unchanged, 0 failed, 0 deleted")
    assert documents(remote, base) == first
    assert remote.get(f"/api/knowledge-bases/{base}")["generation"] == generation

    (folder / "notes" / "otters.md").write_text("# Otters\n\nOtters eat a quarter of their weight a day.\n")
    status, said = ingest(server, remote.token, folder, base, "--exclude", "NOTICE")
    assert (status, said.splitlines()[-1]) == (0, "0 added, 1 replaced, 8 unchanged, 0 failed, 0 deleted")
    second = documents(remote, base)
    changed = {source for source in second if second[source] != first[source]}
    assert changed == {"library/notes/otters.md"}
    assert second["library/notes/otters.md"]["id"] == first["library/notes/otters.md"]["id"]
    hit = remote.post(f"/api/knowledge-bases/{base}/search", {"query": "how much do otters eat", "top_k": 1})["hits"][0]
    assert hit["metadata"]["source"] == "library/notes/otters.md"


def test_documents_without_files_go_when_that_is_asked_for(server: AgentHubServer, remote: Remote, tmp_path: Path) -> None:
    base = remote.post("/api/knowledge-bases", {"name": "Deleting"}, 201)["id"]
    folder = tmp_path / "files"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text(f"This is the text called {name}.")
    remote.post(f"/api/knowledge-bases/{base}/documents", {"title": "t", "text": "Not from a file."}, 201)
    assert ingest_here(server, remote.token, folder, base)[0] == 0
    (folder / "a.txt").rename(folder / "moved.txt")
    (folder / "b.txt").unlink()
    assert ingest_here(server, remote.token, folder, base)[1].splitlines()[-1] == "0 added, 0 replaced, 2 unchanged, 0 failed, 0 deleted"
    assert "delete     files/b.txt" in ingest_here(server, remote.token, folder, base, "--delete-missing", "--dry-run")[1]
    status, said = ingest_here(server, remote.token, folder, base, "--delete-missing")
    assert (status, said.splitlines()[-1]) == (0, "0 added, 0 replaced, 2 unchanged, 0 failed, 1 deleted")
    # The moved file's content stays where it was: there is one document of a content.
    assert set(documents(remote, base)) == {"files/a.txt", "files/c.txt", None}
    (folder / "moved.txt").write_text("Another text.")
    status, said = ingest_here(server, remote.token, folder, base, "--delete-missing")
    assert (status, said.splitlines()[-1]) == (0, "1 added, 0 replaced, 1 unchanged, 0 failed, 1 deleted")
    assert set(documents(remote, base)) == {"files/moved.txt", "files/c.txt", None}


def test_what_can_not_be_done_is_one_message_and_exit_status_1(server: AgentHubServer, remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A text.")
    for token, base, message in (
        (None, "x", "AGENTHUB_TOKEN is not set"),
        ("wrong", "x", ""),
        (remote.token, "No such", "no knowledge base is called 'No such'"),
        (remote.token, "01m889cp2kfhd8n3xza00t8zav", "no knowledge base with this id"),
    ):
        status, said = ingest_here(server, token, tmp_path, base)
        assert status == 1 and message in said and "Traceback" not in said, said
        assert token is None or token not in said
