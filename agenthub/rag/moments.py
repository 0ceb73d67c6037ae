"""Which texts are moments: RFC 3339 dates and times, as microseconds since 1970 UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

NO_MOMENT: Final = -(2**63)
_FORM: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)?)?\Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def moment(text: str) -> int | None:
    """Microseconds since 1970, finer ones cut off; None for a text of another form or a day that doesn't exist.

    A date is its midnight; a time without an offset is UTC.
    """
    if not _FORM.match(text):
        return None
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
