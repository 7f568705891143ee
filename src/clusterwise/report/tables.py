"""Frames as tables of text with the numbers that they sort by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

import numpy as np
import pandas as pd

from clusterwise.core.rows import BLOCK_ROWS
from clusterwise.frames.table import open_table


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and what it sorts by: a number as text, or nothing."""

    text: str
    value: str


@dataclass(frozen=True)
class Table:
    """A table of a page, the first cell of each row being its name."""

    id: str
    caption: str
    columns: list[str]
    rows: list[list[Cell]]


def table_of(id: str, caption: str, frame: pd.DataFrame, index: str) -> Table:
    """A frame as a table, its index first.

    Parameters
    ----------
    id : str
        Name of the table in the page.
    caption : str
        What it shows.
    frame : DataFrame
        Its numbers and texts.
    index : str
        Heading of the index.
    """
    rows = [
        [cell_of(name), *map(cell_of, values)]
        for name, values in zip(frame.index, frame.itertuples(index=False, name=None), strict=True)
    ]
    return Table(id, caption, [index, *map(_name, frame.columns)], rows)


def cell_of(value: Any) -> Cell:
    """A value as text, numbers with five digits."""
    if isinstance(value, (bool, np.bool_)):
        return Cell("yes" if value else "no", "")
    if isinstance(value, Real):
        number = float(value)
        if not np.isfinite(number):
            return Cell("–", "")
        whole = number.is_integer() and abs(number) < 1e15
        return Cell(f"{int(number):,}" if whole else f"{number:.5g}", repr(number))
    return Cell(_name(value), "")


def _name(value: Any) -> str:
    return ": ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def described(data: Any, names: Iterable[str]) -> pd.DataFrame:
    """What columns of the data hold, in one pass over the rows.

    Parameters
    ----------
    data : frame or path
        The rows.
    names : iterable of str
        Columns.

    Returns
    -------
    DataFrame
        A row a column: kind, missing, least, mean and largest number, or levels.
    """
    columns = {name: _Column() for name in names}
    for frame in open_table(data).batches(tuple(columns), BLOCK_ROWS):
        for name, column in columns.items():
            column.add(cast(pd.Series, frame[name]))
    return pd.DataFrame.from_dict({n: c.row() for n, c in columns.items()}, orient="index")


class _Column:
    """What one pass learns of a column."""

    def __init__(self) -> None:
        self.missing, self.count, self.total = 0, 0, 0.0
        self.low, self.high = np.inf, -np.inf
        self.levels: dict[str, int] = {}

    def add(self, series: pd.Series) -> None:
        present = series.dropna()
        self.missing += len(series) - len(present)
        self.count += len(present)
        if pd.api.types.is_numeric_dtype(present) and not pd.api.types.is_bool_dtype(present):
            values = present.to_numpy(float)
            self.total += float(values.sum())
            self.low = min(self.low, values.min(initial=np.inf))
            self.high = max(self.high, values.max(initial=-np.inf))
            return
        for level, count in present.astype(str).value_counts().items():
            self.levels[str(level)] = self.levels.get(str(level), 0) + int(count)

    def row(self) -> dict[str, Any]:
        numeric = not self.levels
        often = sorted(self.levels, key=lambda level: -self.levels[level])[:5]
        return {
            "kind": "number" if numeric else f"{len(self.levels)} levels",
            "missing": self.missing,
            "least": self.low if numeric else np.nan,
            "mean": self.total / max(self.count, 1) if numeric else np.nan,
            "largest": self.high if numeric else np.nan,
            "most often": ", ".join(often),
        }
