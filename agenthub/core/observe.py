"""How engines report what they do without knowing Prometheus."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Takes measurements; `web/metrics.py` implements it with Prometheus."""

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Add to a counter."""
        ...

    def time(self, name: str, seconds: float, /, **labels: str) -> None:
        """Note a duration."""
        ...


class Unobserved:
    """Throws measurements away: the default for engines used by hand."""

    def count(self, _name: str, _amount: float = 1.0, /, **_labels: str) -> None:
        return None

    def time(self, _name: str, _seconds: float, /, **_labels: str) -> None:
        return None
