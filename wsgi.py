"""The production entry: `gunicorn -c config/gunicorn.py wsgi:app`. Reachable from outside unless AGENTHUB_HOST says otherwise."""

from __future__ import annotations

import os

from agenthub.factory import start

app = start({"AGENTHUB_HOST": "0.0.0.0", **os.environ})
