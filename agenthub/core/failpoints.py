"""Named places where a crash test may kill, fail or pause the process.

Off unless armed: `AGENTHUB_FAILPOINTS=name=kill@3,other=error@1` kills at the third passage of `name`. With `all=kill@17`
the 17th passage of any failpoint is hit, which is how a test walks through every step of a flow.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final, Literal

Action = Literal["kill", "error"]
ALL: Final = "all"


class Failpoint(Exception):
    """Raised by an armed failpoint with the action `error`."""


class _Plan:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.armed: dict[str, tuple[Action, int]] = {}
        self.seen: dict[str, int] = {}
        self.trail: list[str] | None = None


_plan = _Plan()


def arm(specification: str) -> None:
    """Arm by a text such as `volume.fsync=kill@2`; an empty text disarms all.

    Raises: ValueError when the text has another form.
    """
    armed: dict[str, tuple[Action, int]] = {}
    for part in filter(None, specification.split(",")):
        name, _, rest = part.partition("=")
        action, _, count = rest.partition("@")
        if action not in ("kill", "error") or not (count or "1").isdigit():
            raise ValueError(f"failpoint {part!r} is not NAME=kill@N or NAME=error@N")
        armed[name] = ("kill" if action == "kill" else "error", int(count or "1"))
    with _plan.lock:
        _plan.armed, _plan.seen = armed, {}


def record() -> list[str]:
    """Start noting every passage; the list returned grows as failpoints are passed."""
    with _plan.lock:
        _plan.trail = []
        return _plan.trail


def failpoint(name: str) -> None:
    """Pass the place called `name`. Costs two attribute reads when nothing is armed."""
    if not _plan.armed and _plan.trail is None:
        return
    with _plan.lock:
        if _plan.trail is not None:
            _plan.trail.append(name)
        actions = [_hit(key) for key in (name, ALL)]
    for action in actions:
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "error":
            raise Failpoint(name)


def _hit(key: str) -> Action | None:
    if key not in _plan.armed:
        return None
    _plan.seen[key] = _plan.seen.get(key, 0) + 1
    action, count = _plan.armed[key]
    return action if _plan.seen[key] == count else None
