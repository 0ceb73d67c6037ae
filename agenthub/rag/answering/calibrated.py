"""Numbers that `python -m benchmarks.answers` fitted; it prints this table. Figures and method: docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Of a logistic function: the constant, and the weights of passage cosine, sentence cosine and coverage of words."""

    constant: float
    weights: tuple[float, float, float]


Signs = Literal["both", "words"]
"""Whether vectors were compared, or words only."""

COEFFICIENTS: Final[Mapping[Signs, Coefficients]] = {
    "both": Coefficients(-6.0, (6.0, 3.0, 4.0)),
    "words": Coefficients(-4.0, (0.0, 0.0, 7.0)),
}
THRESHOLD: Final = 0.5
"""Below this confidence the answer is that it is not in the knowledge base."""
