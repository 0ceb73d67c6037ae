"""The production entry: `gunicorn -c config/gunicorn.py wsgi:app`.

Where nobody says on which address it listens, it counts as reachable from outside: then no default owner is made.
"""

from __future__ import annotations

import os
from typing import Final

from agenthub.factory import start

EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 (nothing is bound here; the safe assumption about who can connect)
BOOT_ERROR: Final = 3  # gunicorn stops at this status; at any other it would start workers in vain for ever

app = start({**os.environ, "AGENTHUB_HOST": os.environ.get("AGENTHUB_HOST") or EVERYWHERE}, exit_status=BOOT_ERROR)
