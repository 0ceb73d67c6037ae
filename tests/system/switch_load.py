"""A client of the switch-over test: `switch_load.py TOKEN NUMBER SECONDS_FILE URL...` makes agents until the file is there.

Each agent has its own Idempotency-Key and is asked for, at one server after the other, until one acknowledges it. Prints one name a
line, at the moment it was acknowledged, and at the end whether an answer was anything but an acknowledgement or a 503 (429: too many
writes for BigQuery). SWITCH_LOAD_PACE is how many seconds it waits between two agents.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import count, cycle
from pathlib import Path

import httpx


def main(token: str, number: str, ends: Path, *urls: str) -> None:
    clients = cycle([httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=120) for url in urls])
    client = next(clients)
    pace_seconds = float(os.environ.get("SWITCH_LOAD_PACE", "0"))
    for turn in count():
        time.sleep(pace_seconds)
        if ends.exists():
            return
        name = f"agent {number} {turn}"
        limit = time.monotonic() + 300
        while True:
            try:
                answer = client.post("/api/agents", json={"name": name}, headers={"Idempotency-Key": name})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 201:
                break
            if (answer is not None and answer.status_code not in (429, 503)) or time.monotonic() > limit:
                sys.exit(f"{name}: {answer and (answer.status_code, answer.text)}")
            client = next(clients)
            time.sleep(0.05)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
