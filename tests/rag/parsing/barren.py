"""A server that can start no process. Started by `test_sandbox.py`."""

from __future__ import annotations

import os

from agenthub.rag.parsing import fork_server


def refused() -> int:
    """What fork does where there are too many processes."""
    raise BlockingIOError(11, "Resource temporarily unavailable")


if __name__ == "__main__":
    os.fork = refused
    fork_server.main()
