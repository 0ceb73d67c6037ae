"""The development entry: `python app.py` serves on AGENTHUB_HOST and PORT with Flask's own server."""

from __future__ import annotations

import os

from agenthub.factory import start
from agenthub.web.access import EXTENSION, JOBS

if __name__ == "__main__":
    app = start(os.environ)
    web = app.extensions[EXTENSION].settings.web
    app.extensions[JOBS].start()
    app.run(web.host, web.port, threaded=True)
