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
    "both": Coefficients(-11.27, (9.34, 11.07, 7.42)),
    "words": Coefficients(-5.33, (0.0, 0.0, 14.74)),
}
THRESHOLD: Final = 0.5
"""Below this confidence the answer is that it is not in the knowledge base."""
