"""Tables: frames in memory and files on disk, read as batches of one size."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clusterwise.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Table", "check_columns", "open_table"]

Batches = Callable[[Sequence[str], int], Iterator[pd.DataFrame]]


class Table:
    """Named columns that are read in batches.

    Parameters
    ----------
    names : sequence of str
        Names of the columns.
    n_rows : int or None
        Number of rows, or None where only reading to the end would tell.
    is_file : bool
        Whether the rows are read from disk on every pass.
    read : callable
        Takes column names and a number of rows, and yields the batches.
    """

    def __init__(
        self, names: Sequence[str], n_rows: int | None, is_file: bool, read: Batches
    ) -> None:
        self.names = _unique(names)
        self.n_rows = n_rows
        self.is_file = is_file
        self._read = read

    def batches(self, names: Sequence[str], rows: int) -> Iterator[pd.DataFrame]:
        """Read columns from the first row to the last.

        Parameters
        ----------
        names : sequence of str
            The columns to read; none gives batches that have rows only.
        rows : int
            Rows of every batch but the last.

        Yields
        ------
        DataFrame
            The next rows.

        Raises
        ------
        DataError
            If the table has no such column.
        FileError
            If the file turns out to be damaged.

        Examples
        --------
        >>> table = open_table({"x": [1.0, 2.0, 3.0]})
        >>> [len(batch) for batch in table.batches(["x"], 2)]
        [2, 1]
        """
        check_columns(names, self.names)
        wanted = list(dict.fromkeys(names))
        if wanted or not self.names:
            yield from self._read(wanted, rows)
        else:
            for batch in self._read(self.names[:1], rows):
                yield batch.loc[:, []]


def open_table(data: Any) -> Table:
    """Open a frame, a mapping, an array or a file.

    Parameters
    ----------
    data : frame, mapping, ndarray or path
        A pandas, polars or Arrow frame or any other that narwhals knows; a mapping from names to
        one-dimensional arrays; a two-dimensional array, whose columns become ``x0``, ``x1``, ...;
        or the path of a CSV, Parquet or Arrow file.

    Returns
    -------
    Table
        The columns, not yet read if they are on disk.

    Raises
    ------
    DataError
        If ``data`` is none of these or its columns do not fit together.
    FileError
        If the file is missing, damaged or of an unknown kind.

    Examples
    --------
    >>> open_table({"x": [1.0, 2.0], "g": ["a", "b"]}).names
    ('x', 'g')
    """
    if isinstance(data, (str, os.PathLike)):
        from clusterwise.frames.files import open_file

        names, n_rows, read = open_file(data)
        return Table(names, n_rows, True, lambda wanted, rows: _frames(read(wanted), wanted, rows))
    if isinstance(data, np.ndarray):
        return _columns_table(_split_array(data))
    if isinstance(data, Mapping):
        names = _unique([str(name) for name in data])
        return _columns_table(dict(zip(names, map(_one_column, data, data.values()), strict=True)))
    if isinstance(data, pd.DataFrame):
        return _pandas_table(data)
    return _narwhals_table(data)


def check_columns(needed: Iterable[str], names: Sequence[str]) -> None:
    """Raise a DataError that names the first column that is not there.

    Parameters
    ----------
    needed : iterable of str
        Columns that are wanted.
    names : sequence of str
        Columns that exist.
    """
    known = set(names)
    for name in needed:
        if name in known:
            continue
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        shown = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
        raise DataError(f"there is no column {name!r}{hint} The columns are: {shown or '(none)'}")


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Check that no two columns have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"the table has several columns named {name!r}; rename them")
        seen.add(name)
    return tuple(names)


def _split_array(data: np.ndarray) -> dict[str, pd.Series | np.ndarray]:
    if data.ndim != 2 or data.dtype.names:
        raise DataError(
            f"an array must have two dimensions, rows and columns, not {data.ndim}; "
            "name columns with a data frame or a mapping"
        )
    return {f"x{j}": _one_column(f"x{j}", data[:, j]) for j in range(data.shape[1])}


def _one_column(name: object, values: Any) -> pd.Series | np.ndarray:
    """One column of a mapping or an array, as a series or a numeric array."""
    import narwhals as nw

    if not isinstance(values, (list, tuple, range, pd.Series, pd.api.extensions.ExtensionArray)):
        native = nw.from_native(values, series_only=True, pass_through=True)
        values = native.to_pandas() if isinstance(native, nw.Series) else np.asarray(values)
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "biuf":
        return values
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(f"column {str(name)!r} must have one dimension, not {values.ndim}")
    return pd.Series(values).infer_objects()


def _columns_table(columns: Mapping[str, pd.Series | np.ndarray]) -> Table:
    """Columns that slice without a copy."""
    lengths = {name: len(column) for name, column in columns.items()}
    n_rows = next(iter(lengths.values()), 0)
    for name, length in lengths.items():
        if length != n_rows:
            first = next(iter(lengths))
            raise DataError(f"column {name!r} has {length} rows, column {first!r} {n_rows}")
    arrays = {
        name: np.asarray(column)
        if isinstance(column.dtype, np.dtype)
        else pd.array(column, copy=False)
        for name, column in columns.items()
    }

    def read(names: Sequence[str], rows: int) -> Iterator[pd.DataFrame]:
        for start in range(0, n_rows, rows):
            stop = min(start + rows, n_rows)
            part = {name: arrays[name][start:stop] for name in names}
            yield pd.DataFrame(part, index=range(stop - start), copy=False)

    return Table(tuple(columns), n_rows, False, read)


def _pandas_table(frame: pd.DataFrame) -> Table:
    names = _unique([str(name) for name in frame.columns])
    return _columns_table({name: frame.iloc[:, j] for j, name in enumerate(names)})


def _narwhals_table(data: Any) -> Table:
    import narwhals as nw
    import pyarrow as pa

    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        frame, names = None, data.column_names
    else:
        try:
            frame = nw.from_native(data, eager_only=True)
        except TypeError as error:
            raise DataError(
                f"cannot use {type(data).__name__} as data; give a data frame (a lazy one "
                "collected first), a mapping of columns, a two-dimensional array or a path"
            ) from error
        if frame.implementation.is_pandas_like():
            return _pandas_table(frame.to_pandas())
        names = frame.columns
    n_rows = data.num_rows if frame is None else len(frame)

    def read(wanted: Sequence[str], rows: int) -> Iterator[pd.DataFrame]:
        part = data.select(list(wanted)) if frame is None else _to_arrow(frame.select(*wanted))
        yield from _frames(part.to_batches(), wanted, rows)

    return Table(names, n_rows, False, read)


def _to_arrow(frame: Any) -> pa.Table:
    """A polars frame as Arrow; its undeclared categories become text, so that levels sort."""
    import narwhals as nw

    text = [name for name, dtype in frame.schema.items() if dtype == nw.Categorical]
    try:
        return (
            frame.with_columns(nw.col(*text).cast(nw.String)).to_arrow()
            if text
            else (frame.to_arrow())
        )
    except Exception as error:
        raise DataError(f"a column cannot be read as Arrow data: {error}") from error


def _frames(
    batches: Iterable[pa.RecordBatch], names: Sequence[str], rows: int
) -> Iterator[pd.DataFrame]:
    """Arrow batches of any size as pandas frames of one size."""
    import pyarrow as pa

    kept: list[pa.RecordBatch] = []
    have = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            take = min(rows - have, batch.num_rows - start)
            kept.append(batch.slice(start, take))
            start, have = start + take, have + take
            if have == rows:
                yield _to_frame(pa.Table.from_batches(kept), names)
                kept, have = [], 0
    if kept:
        yield _to_frame(pa.Table.from_batches(kept), names)


def _to_frame(table: pa.Table, names: Sequence[str]) -> pd.DataFrame:
    columns = {name: _to_pandas(table.column(name)) for name in names}
    return pd.DataFrame(columns, index=range(table.num_rows), copy=False)


def _to_pandas(column: pa.ChunkedArray) -> pd.Series | np.ndarray:
    """Plain numbers without a copy, everything else by Arrow's own rules."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_dictionary(kind) and column.num_chunks > 1:
        column = column.unify_dictionaries()
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not column.null_count:
        return column.chunk(0).to_numpy() if column.num_chunks == 1 else column.to_numpy()
    return column.to_pandas(date_as_object=False)
