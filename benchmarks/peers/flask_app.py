"""The bare route. `hits` are ten of 700 bytes, as many as a search of the benchmark answers."""

from __future__ import annotations

import json
from typing import Final

from flask import Flask, Response, request

_ANSWER: Final = json.dumps({"generation": 1, "hits": [{"chunk_id": "item-00000000", "text": "x" * 660}] * 10}).encode()

app = Flask(__name__)


@app.post("/search")
def search() -> Response:
    """Read the body and answer."""
    request.get_data()
    return Response(_ANSWER, mimetype="application/json")


@app.get("/live")
def live() -> Response:
    """Say that it is there."""
    return Response(b"{}", mimetype="application/json")
