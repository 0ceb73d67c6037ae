"""What a process of the kill tests does: `mover.py copy|switch SOURCE TARGET FAILPOINTS`."""

from __future__ import annotations

import sys

from agenthub.core import failpoints
from agenthub.storage.gate import open_gate, read_gate
from agenthub.storage.moving.switching import switch
from tests.contracts.storage.conftest import opened
from tests.storage.moving.conftest import moving


def main(command: str, source_url: str, target_url: str, armed: str) -> None:
    source = opened(source_url)
    move = moving(source, opened(target_url))
    failpoints.arm(armed)
    if command == "copy":
        move.copy(follow=True)
        move.drain()
        return
    gate = read_gate(source)
    if gate.mode == "paused":  # an operator who doesn't want to wait for the pause of the one that was killed
        open_gate(source, gate)
    switch(move)


if __name__ == "__main__":
    main(*sys.argv[1:])
