"""The development entry: `python app.py` serves on AGENTHUB_HOST and PORT."""

from __future__ import annotations

import os

from agenthub.factory import create_app
from agenthub.settings import Settings

if __name__ == "__main__":
    settings = Settings.from_env(os.environ)
    create_app(settings).run(settings.web.host, settings.web.port, threaded=True)
