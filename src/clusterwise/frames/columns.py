"""Single columns: numbers or categories, and the rows that cannot be used."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import numpy as np
import pandas as pd

from clusterwise.core.errors import DataError

__all__ = ["Level", "Problems", "column_kind", "read_levels", "read_numbers"]

Level = str | int | float | bool
Kind = Literal["numeric", "category", "empty"]

_TEXT = "holds text where numbers are needed"
_TEXT_ADVICE = "convert it to numbers, or use it as a category"
_MISSING = "has missing values"
_MISSING_ADVICE = "they are needed here; drop these rows, or fill them"


class Problems:
    """Rows that cannot be used, gathered over batches, raised as one error."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[list[int], str]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, subject: str, what: str, advice: str, rows: np.ndarray) -> None:
        """Note rows of one kind of problem.

        Parameters
        ----------
        subject : str
            What the problem is about, such as ``"column 'x'"``.
        what : str
            The problem.
        advice : str
            What to do about it.
        rows : ndarray
            Row numbers; none is no problem.
        """
        if not len(rows):
            return
        key = (subject, what)
        first, _ = self._found.setdefault(key, ([], advice))
        first += [int(row) for row in rows[: 5 - len(first)]]
        self._counts[key] = self._counts.get(key, 0) + len(rows)

    def check(self) -> None:
        """Raise a DataError about the first problem, if there is one."""
        for (subject, what), (first, advice) in self._found.items():
            count = self._counts[subject, what]
            rows = ", ".join(map(str, first)) + (", ..." if count > len(first) else "")
            plural = "row" if count == 1 else "rows"
            raise DataError(f"{subject} {what} in {count} {plural} (from 0: {rows}); {advice}")


def column_kind(series: pd.Series, name: str) -> Kind:
    """Whether a column is numbers or categories.

    Parameters
    ----------
    series : Series
        The column, or some rows of it.
    name : str
        Its name, for the error.

    Returns
    -------
    {"numeric", "category", "empty"}
        ``"empty"`` if these rows hold nothing that would tell.

    Raises
    ------
    DataError
        If it holds dates or other values that are neither.
    """
    dtype = _plain(series).dtype
    if isinstance(dtype, (pd.CategoricalDtype, pd.StringDtype)):
        return "category"
    if pd.api.types.is_object_dtype(dtype):
        return _object_kind(series, name)
    if pd.api.types.is_bool_dtype(dtype):
        return "numeric"
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return "numeric"
    raise DataError(_refuse(name, str(dtype)))


def _object_kind(series: pd.Series, name: str) -> Kind:
    """Kind of a column whose values are Python objects."""
    inferred = pd.api.types.infer_dtype(series, skipna=True)
    if inferred in ("string", "empty"):
        return "category" if inferred == "string" else "empty"
    if inferred in ("boolean", "integer", "floating", "decimal", "mixed-integer-float"):
        return "numeric"
    # A mixture may still be numbers of several types; what is not is reported with its rows.
    if inferred in ("mixed", "mixed-integer"):
        return "numeric"
    raise DataError(_refuse(name, inferred))


def _refuse(name: str, found: str) -> str:
    if any(word in found for word in ("date", "time", "period")):
        return (
            f"column {name!r} holds dates or times; convert them to numbers, "
            "for example days since the first one"
        )
    return f"column {name!r} holds values of type {found}; give numbers or text"


def _plain(series: pd.Series) -> pd.Series:
    """Arrow-backed columns as the ordinary pandas types."""
    if not isinstance(series.dtype, pd.ArrowDtype):
        return series
    import pyarrow as pa

    column = pa.chunked_array([pa.array(series)])
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return column.to_pandas(date_as_object=False)


def read_numbers(
    series: pd.Series,
    name: str,
    problems: Problems,
    *,
    first_row: int = 0,
    may_miss: bool = False,
) -> np.ndarray:
    """Read a column as float64.

    Parameters
    ----------
    series : Series
        The column.
    name : str
        Its name.
    problems : Problems
        Takes the rows that are missing, infinite or text.
    first_row : int, default 0
        Number of the first row.
    may_miss : bool, default False
        Whether missing values are no problem.

    Returns
    -------
    ndarray
        One number a row, NaN where there is none.
    """
    series = _plain(series)
    subject = f"column {name!r}"
    if column_kind(series, name) == "category":
        rows = np.flatnonzero(series.notna()) + first_row
        problems.add(subject, _TEXT, _TEXT_ADVICE, rows)
        if not may_miss:
            missing = np.flatnonzero(series.isna()) + first_row
            problems.add(subject, _MISSING, _MISSING_ADVICE, missing)
        return np.full(len(series), np.nan)
    if pd.api.types.is_object_dtype(series.dtype):
        values = _object_numbers(series, name, problems, first_row)
    elif isinstance(series.dtype, np.dtype):
        values = np.asarray(series, dtype=np.float64)
    else:
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    # A sum is finite only if all its parts are, and costs no array.
    with np.errstate(all="ignore"):
        finite = np.isfinite(values.sum())
    if not finite:
        missing = np.isnan(values)
        if pd.api.types.is_object_dtype(series.dtype):
            missing &= series.isna().to_numpy()
        infinite = np.flatnonzero(np.isinf(values)) + first_row
        if not may_miss:
            lost = np.flatnonzero(missing) + first_row
            problems.add(subject, _MISSING, _MISSING_ADVICE, lost)
        problems.add(subject, "is infinite", "replace or drop these values", infinite)
    return values


def _object_numbers(series: pd.Series, name: str, problems: Problems, first_row: int) -> np.ndarray:
    """Numbers among Python objects; anything else becomes NaN and is noted."""
    objects = series.to_numpy()
    values = np.full(len(objects), np.nan)
    wrong = []
    for row, (value, missing) in enumerate(zip(objects, series.isna(), strict=True)):
        if missing:
            continue
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            values[row] = np.nan if isinstance(value, (str, bytes)) else float(value)
        if np.isnan(values[row]):
            wrong.append(row)
    if wrong:
        what = f"{_TEXT} (such as {objects[wrong[0]]!r:.40})"
        problems.add(f"column {name!r}", what, _TEXT_ADVICE, np.array(wrong) + first_row)
    return values


def read_levels(
    series: pd.Series,
    name: str,
    problems: Problems,
    *,
    first_row: int = 0,
    may_miss: bool = False,
) -> tuple[np.ndarray, list[Level]]:
    """Read a column as categories.

    Parameters
    ----------
    series : Series
        The column.
    name : str
        Its name.
    problems : Problems
        Takes the rows that are missing.
    first_row : int, default 0
        Number of the first row.
    may_miss : bool, default False
        Whether missing values are no problem.

    Returns
    -------
    codes : ndarray of int
        For each row a position in ``levels``, -1 where it is missing.
    levels : list
        The levels as plain Python values; declared ones in their order.
    """
    series = _plain(series)
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes, found = series.cat.codes.to_numpy().astype(np.intp), series.cat.categories
    else:
        codes, found = pd.factorize(series)
    if not may_miss:
        missing = np.flatnonzero(codes < 0) + first_row
        problems.add(f"column {name!r}", _MISSING, _MISSING_ADVICE, missing)
    return codes, [_plain_level(level) for level in found]


def _plain_level(level: Any) -> Level:
    """A level as JSON can hold it; intervals and the like by their text."""
    if isinstance(level, np.generic):
        level = level.item()
    plain = isinstance(level, (str, int)) or (isinstance(level, float) and np.isfinite(level))
    return level if plain else str(level)
