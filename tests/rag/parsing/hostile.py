"""A server whose children are taken over by their document: its second line is run by a shell. Started by `test_sandbox.py`."""

from __future__ import annotations

import os

from agenthub.rag.parsing import child, fork_server


def taken_over(line: int) -> None:
    """Obey the document, with the line to the parent as standard input and output."""
    head = os.read(line, 65_536).split(b"\n")
    os.dup2(line, 1)
    os.execv("/bin/sh", ["sh", "-c", head[3].decode()])


if __name__ == "__main__":
    child.serve = taken_over
    fork_server.main()
