"""Figures over events: how many, how much, by whom, by day or by what they were. Asked of the database or of the warehouse.

One text for each database, for a day is written differently in each. In the warehouse the same columns are in tables with a prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

from agenthub.storage.contract import Column, ColumnType, Question, Row

DAY: Final = "day"
_DAYS: Final = {
    "postgresql": "to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "sqlite": "strftime('%Y-%m-%d', e.at / 1000000, 'unixepoch')",
    "bigquery": "FORMAT_TIMESTAMP('%Y-%m-%d', e.at, 'UTC')",
}
_COUNTED: Final = "COUNT(*) AS events, COUNT(DISTINCT e.actor_id) AS actors"
_SUMMED: Final = (
    "SUM(e.quantity) AS quantity, COALESCE(SUM(e.seconds), 0.0) AS seconds, COALESCE(SUM(e.prompt_tokens), 0) AS prompt_tokens,"
    " COALESCE(SUM(e.completion_tokens), 0) AS completion_tokens"
)
_RESULTS: Final = ", ".join(f"SUM(CASE WHEN e.result = '{result}' THEN 1 ELSE 0 END) AS {result}" for result in ("ok", "denied", "failed"))
_KEY: Final = Column("key", ColumnType.TEXT)
_COUNT_COLUMNS: Final = (Column("events", ColumnType.INTEGER), Column("actors", ColumnType.INTEGER))
_TOKENS: Final = ("prompt_tokens", "completion_tokens")


def _statements(table: str, by: str, figures: str, kept: str) -> dict[str, str]:
    return {dialect: _statement(table, _DAYS[dialect] if by == DAY else f"COALESCE(e.{by}, '')", figures, kept) for dialect in _DAYS} | {
        "warehouse": _statement(f"warehouse_{table}", _DAYS["bigquery"] if by == DAY else f"COALESCE(e.{by}, '')", figures, kept)
    }


def _statement(table: str, key: str, figures: str, kept: str) -> str:
    return (
        f"SELECT * FROM (SELECT {key} AS key, {_COUNTED}, {figures} FROM {table} AS e"  # noqa: S608 - our own names, values are bound
        f" WHERE e.tenant_id = :tenant_id AND e.at >= :since AND e.at < :until AND {kept} GROUP BY 1) AS grouped"
        " WHERE (:first = 1 OR grouped.key > :after) ORDER BY grouped.key LIMIT :most"
    )


def _grouped(rows: Iterable[Row], by: str, given: Mapping[str, Any]) -> list[tuple[str, list[Row]]]:
    """The same in Python: the groups after the one that the page before ended with."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["tenant_id"] == given["tenant_id"] and given["since"] <= row["at"] < given["until"]:
            groups.setdefault(_key_of(row, by), []).append(row)
    following = sorted(((key, group) for key, group in groups.items() if given["first"] or key > given["after"]), key=itemgetter(0))
    return following[: given["most"]]


def _key_of(row: Row, by: str) -> str:
    at: datetime = row["at"]
    return at.astimezone(UTC).strftime("%Y-%m-%d") if by == DAY else str(row[by] or "")


def _counts(key: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {"key": key, "events": len(rows), "actors": len({row["actor_id"] for row in rows} - {None})}


Answer = Callable[[Callable[[str], Sequence[Row]], Mapping[str, Any]], Sequence[Row]]


def _activity_in_memory(by: str) -> Answer:
    def answer(rows_of: Callable[[str], Sequence[Row]], given: Mapping[str, Any]) -> Sequence[Row]:
        kept = (
            row
            for row in rows_of("activity_events")
            if row["kind"] == given["kind"] and given["agent_id"] in ("", row["agent_id"]) and given["actor_id"] in ("", row["actor_id"])
        )
        return [
            _counts(key, rows)
            | {"quantity": sum(row["quantity"] for row in rows), "seconds": sum(row["seconds"] or 0.0 for row in rows)}
            | {name: sum(row[name] or 0 for row in rows) for name in _TOKENS}
            for key, rows in _grouped(kept, by, given)
        ]

    return answer


def _audit_in_memory(by: str) -> Answer:
    def answer(rows_of: Callable[[str], Sequence[Row]], given: Mapping[str, Any]) -> Sequence[Row]:
        kept = (
            row for row in rows_of("audit_events") if given["action"] in ("", row["action"]) and given["actor_id"] in ("", row["actor_id"])
        )
        return [
            _counts(key, rows) | {result: sum(row["result"] == result for row in rows) for result in ("ok", "denied", "failed")}
            for key, rows in _grouped(kept, by, given)
        ]

    return answer


def _activity(by: str) -> Question:
    kept = "e.kind = :kind AND (:agent_id = '' OR e.agent_id = :agent_id) AND (:actor_id = '' OR e.actor_id = :actor_id)"
    sums = (
        Column("quantity", ColumnType.REAL),
        Column("seconds", ColumnType.REAL),
        *(Column(name, ColumnType.INTEGER) for name in _TOKENS),
    )
    columns = (_KEY, *_COUNT_COLUMNS, *sums)
    return Question(f"activity_by_{by}", columns, _statements("activity_events", by, _SUMMED, kept), _activity_in_memory(by))


def _audit(by: str) -> Question:
    kept = "(:action = '' OR e.action = :action) AND (:actor_id = '' OR e.actor_id = :actor_id)"
    columns = (_KEY, *_COUNT_COLUMNS, *(Column(name, ColumnType.INTEGER) for name in ("ok", "denied", "failed")))
    return Question(f"audit_by_{by}", columns, _statements("audit_events", by, _RESULTS, kept), _audit_in_memory(by))


ACTIVITY_BY: Final = {by: _activity(by) for by in (DAY, "name", "actor_id", "agent_id")}
"""Of `activity_events` of a tenant and a kind from `since` until before `until`: figures by day (UTC) or by a column. Those after
`after`, or all where `first` is 1; at most `most`.
"""

AUDIT_BY: Final = {by: _audit(by) for by in (DAY, "action", "actor_id", "resource_kind", "result")}
"""Of `audit_events`, in the same way, by how they ended."""
