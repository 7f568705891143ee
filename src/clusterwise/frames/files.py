"""Files of tables: CSV, Parquet and Arrow, read piece by piece."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from clusterwise.core.errors import FileError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["open_file"]

# Large enough to decode quickly, small enough to keep memory flat.
BATCH_ROWS = 131_072
BLOCK_BYTES = 1 << 22

Reader = Callable[[Sequence[str]], Iterator["pa.RecordBatch"]]
Opened = tuple[list[str], "int | None", Reader]


def open_file(path: str | os.PathLike[str]) -> Opened:
    """Open a file by its suffix.

    Parameters
    ----------
    path : str or PathLike
        A ``.csv``, ``.csv.gz``, ``.parquet``, ``.pq``, ``.arrow``, ``.feather`` or ``.ipc`` file.

    Returns
    -------
    names : list of str
        Its columns.
    n_rows : int or None
        Its rows, where the file says so.
    read : callable
        Takes column names and yields Arrow record batches; every call reads from the start.

    Raises
    ------
    FileError
        If the file is missing, empty, damaged or of an unknown kind.
    """
    place = os.path.expanduser(os.fspath(path))
    if not isinstance(place, str):
        raise FileError(f"a path is text, not {path!r}")
    openers = {
        ".csv": _open_csv,
        ".csv.gz": _open_csv,
        ".parquet": _open_parquet,
        ".pq": _open_parquet,
        ".arrow": _open_arrow,
        ".feather": _open_arrow,
        ".ipc": _open_arrow,
    }
    opener = next((o for end, o in openers.items() if place.lower().endswith(end)), None)
    if os.path.isdir(place):
        raise FileError(f"{place!r} is a folder; give the path of one file")
    if opener is None:
        raise FileError(f"cannot tell what {place!r} is; its name must end in {', '.join(openers)}")
    if not os.path.exists(place):
        raise FileError(f"there is no file {place!r}; check the path")
    if os.path.getsize(place) == 0:
        raise FileError(f"the file {place!r} is empty; write it again")
    return _guarded(place, lambda: opener(place))


def _guarded(place: str, action: Callable[[], Any]) -> Any:
    """Run a step of reading and say which file was at fault."""
    import pyarrow as pa

    try:
        return action()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FileError(
            f"cannot read {place!r}: it is damaged, cut short or not what its name says; "
            f"write it again ({error})"
        ) from error


def _guarded_batches(
    place: str, start: Callable[[], Iterable[pa.RecordBatch]]
) -> Iterator[pa.RecordBatch]:
    batches = _guarded(place, lambda: iter(start()))
    while (batch := _guarded(place, lambda: next(batches, None))) is not None:
        yield batch


def _open_parquet(place: str) -> Opened:
    import pyarrow.parquet as pq

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        def start() -> Iterator[pa.RecordBatch]:
            # A buffer reads a row group page by page instead of whole.
            with pq.ParquetFile(place, buffer_size=BLOCK_BYTES, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(names)):
                    yield batch.select(list(names))

        return _guarded_batches(place, start)

    with pq.ParquetFile(place) as file:
        return file.schema_arrow.names, file.metadata.num_rows, read


def _open_arrow(place: str) -> Opened:
    import pyarrow as pa

    def start(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(place) as source:
            schema, batches = _arrow_batches(source)
            if schema is not None:
                fields = sorted(schema.get_field_index(name) for name in names)
                options = pa.ipc.IpcReadOptions(included_fields=fields)
                file = pa.ipc.open_file(source, options=options)
                batches = (file.get_batch(part) for part in range(file.num_record_batches))
            for batch in batches:
                yield batch.select(list(names))

    with pa.OSFile(place) as source:
        schema, stream = _arrow_batches(source)
        names = (schema or stream.schema).names
    return names, None, lambda wanted: _guarded_batches(place, lambda: start(wanted))


def _arrow_batches(source: pa.NativeFile) -> tuple[pa.Schema | None, Any]:
    """The schema of an Arrow file, or the reader of an Arrow stream."""
    import pyarrow as pa

    try:
        return pa.ipc.open_file(source).schema, None
    except pa.ArrowInvalid:
        source.seek(0)
        return None, pa.ipc.open_stream(source)


def _open_csv(place: str) -> Opened:
    from pyarrow import csv

    def start(types: dict[str, pa.DataType] | None) -> csv.CSVStreamingReader:
        return csv.open_csv(
            place,
            read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=list(types or ()), strings_can_be_null=True
            ),
        )

    with start(None) as reader:
        names = reader.schema.names
    if len(names) == 1 and any(sign in names[0] for sign in ";\t"):
        raise FileError(f"{place!r} does not separate its columns by commas; write it again")
    known: dict[str, pa.DataType] = {}

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        new = [name for name in wanted if name not in known]
        if new:
            texts = _guarded_batches(place, lambda: start(dict.fromkeys(new, _text())))
            known.update(_infer_types(texts, new))
        return _guarded_batches(place, lambda: start({name: known[name] for name in wanted}))

    return names, None, read


def _text() -> pa.DataType:
    import pyarrow as pa

    return pa.string()


def _infer_types(batches: Iterable[pa.RecordBatch], names: Sequence[str]) -> dict[str, pa.DataType]:
    """Types that hold for the whole file: a later block may not be like the first."""
    import pyarrow as pa

    types: dict[str, pa.DataType | None] = dict.fromkeys(names)
    for batch in batches:
        for name in names:
            if types[name] != pa.string():
                types[name] = _widen(types[name], batch.column(name))
    return {name: kind or pa.float64() for name, kind in types.items()}


def _widen(kind: pa.DataType | None, texts: pa.Array) -> pa.DataType | None:
    """Smallest type that holds both what came before and these texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if texts.null_count == len(texts):
        return kind
    # The reader of numbers skips blanks around them, a cast does not.
    trimmed = pc.call_function("utf8_trim_whitespace", [texts])
    numbers = [pa.int64(), pa.float64()]
    for candidate in numbers[numbers.index(kind) :] if kind in numbers else [*numbers, pa.bool_()]:
        try:
            (trimmed if candidate in numbers else texts).cast(candidate)
        except pa.ArrowInvalid:
            continue
        return candidate if kind in (None, *numbers, candidate) else pa.string()
    return pa.string()
