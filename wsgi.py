"""The production entry: `gunicorn -c config/gunicorn.py wsgi:app`."""

from __future__ import annotations

import os

from agenthub.factory import create_app
from agenthub.settings import Settings

app = create_app(Settings.from_env({"AGENTHUB_HOST": "0.0.0.0", **os.environ}))
