"""The README tells the truth about settings and shows pictures that exist."""

from __future__ import annotations

import re
from pathlib import Path

from agenthub.variables import VARIABLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_table_is_the_table_of_variables() -> None:
    rows = [f"| `{v.name}` | {f'`{v.default}`' if v.default else ''} | {v.description.replace('|', chr(92) + '|')} |" for v in VARIABLES]
    shown = re.findall(r"^\| `[A-Z_0-9]+` \|.*$", README, flags=re.MULTILINE)
    assert shown == rows, "put these rows into README.md:\n" + "\n".join(rows)


def test_what_it_points_to_is_there() -> None:
    named = re.findall(r"\]\(([^)#]+)\)|`((?:docs|config)/[a-z/._-]+)`", README)
    paths = [one or other for one, other in named]
    assert len(paths) > 5
    assert [path for path in paths if not path.startswith("http") and not (ROOT / path).exists()] == []
