"""What an encoder learns about each variable in its pass over the table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from clusterwise.core.errors import DataError
from clusterwise.frames.columns import Level, Problems, column_kind, read_levels, read_numbers
from clusterwise.frames.expression import Factor

__all__ = ["Scan", "Variable"]

MAX_LEVELS = 5_000


@dataclass(frozen=True)
class Variable:
    """A column of the data as an encoder knows it.

    Attributes
    ----------
    kind : {"numeric", "category"}
        How the column is used when a formula names it.
    levels : tuple, optional
        Levels of a category, or of a number that is used in ``C(...)``.
    """

    kind: Literal["numeric", "category"]
    levels: tuple[Level, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"kind": self.kind, "levels": None if self.levels is None else list(self.levels)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Variable:
        """Rebuild from what `to_dict` returned; a ValueError says what is wrong."""
        kind, levels = saved["kind"], saved["levels"]
        if kind not in ("numeric", "category") or (kind == "category" and levels is None):
            raise ValueError("a variable is neither numeric nor a category")
        if levels is None:
            return cls(kind)
        if not isinstance(levels, list) or len(set(levels)) < len(levels) or not levels:
            raise ValueError("levels are not a list of different values")
        if not all(isinstance(level, (str, int, float)) for level in levels):
            raise ValueError("a level is neither text nor a number")
        return cls(kind, tuple(levels))


class Scan:
    """What one pass learns about a variable."""

    def __init__(self, name: str, factors: Iterable[Factor], may_miss: bool = False) -> None:
        using = [factor for factor in factors if name in factor.variables]
        self.name = name
        self.may_miss = may_miss
        self.missing = 0
        self.kind: str | None = None
        self.coded = any(factor.kind == "category" for factor in using)
        self.needs_number = [f.name for f in using if f.kind == "expression"]
        self.seen: dict[Level, None] = {}
        self.declared: list[Level] | None = None
        self.sorted = False

    def update(self, series: pd.Series, problems: Problems, first_row: int) -> np.ndarray | None:
        """Take some rows; return their numbers if the variable is numeric."""
        kind = column_kind(series, self.name)
        self.missing += int(series.isna().sum())
        if self.kind is None and kind != "empty":
            self.kind = kind
        if self.kind == "category" and self.needs_number:
            raise DataError(
                f"column {self.name!r} holds text, but {self.needs_number[0]} needs numbers; code "
                f"it as numbers (0 and 1 for two levels), or use its levels: C({self.name}) in a "
                f"formula, cw.CategoricalCovariates({self.name!r}) among covariates"
            )
        if self.kind == "category" and kind == "numeric":
            rows = np.flatnonzero(series.notna()) + first_row
            advice = "make the column all text or all numbers"
            problems.add(f"column {self.name!r}", "holds numbers among text", advice, rows)
        if self.coded or self.kind == "category":
            self._add_levels(series, problems, first_row)
        if self.kind == "category":
            return None
        return read_numbers(
            series, self.name, problems, first_row=first_row, may_miss=self.may_miss
        )

    def _add_levels(self, series: pd.Series, problems: Problems, first_row: int) -> None:
        codes, found = read_levels(
            series, self.name, problems, first_row=first_row, may_miss=self.may_miss
        )
        if isinstance(series.dtype, pd.CategoricalDtype):
            self.sorted |= self.declared not in (None, found)
            self.declared = found
        else:
            self.sorted = True
        occurs = np.bincount(codes[codes >= 0], minlength=len(found)) > 0
        self.seen |= dict.fromkeys(
            level for level, is_there in zip(found, occurs, strict=True) if is_there
        )
        if len(self.seen) > MAX_LEVELS:
            raise DataError(
                f"column {self.name!r} has more than {MAX_LEVELS:,} levels; "
                "use a column with fewer, or convert it to numbers"
            )

    def result(self) -> Variable:
        """What has been learned, with the levels in order."""
        if self.kind != "category" and not self.coded:
            return Variable("numeric")
        levels = list(self.seen)
        if self.declared is None or self.sorted:
            # Batches that declare different orders declare none.
            levels.sort(key=lambda level: (isinstance(level, str), level))
        else:
            levels = [level for level in self.declared if level in self.seen]
        return Variable("category" if self.kind == "category" else "numeric", tuple(levels))
