"""`clusterwise predict` and `clusterwise simulate`: from a fit to a table."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clusterwise.cli.report import print_rows
from clusterwise.core.errors import FileError
from clusterwise.fit import Fit
from clusterwise.output import batches, read_fit

_HEAD = 10


@dataclass(frozen=True)
class Question:
    """What to predict."""

    kind: str
    q: tuple[float, ...]
    level: float
    response: str | None


def run_predict(
    folder: Path, data: Path, question: Question, output: Path | None, *, force: bool
) -> None:
    """Predict new rows.

    Parameters
    ----------
    folder : Path
        A fit's folder.
    data : Path
        The new rows.
    question : Question
        What to predict.
    output : Path or None
        A CSV or Parquet file; None prints the first rows.
    force : bool
        Whether the file may exist.
    """
    if output is not None:
        _check_file(output, force=force)
    fit = read_fit(folder)
    frames = _answers(fit, data, question, None if output is not None else _HEAD)
    if output is None:
        print_rows(next(frames))
        print(f"At most {_HEAD} rows are shown; --output FILE writes all.")
        return
    n_rows = _write(frames, output)
    print(f"Wrote {n_rows} rows to {output}")


def run_simulate(
    folder: Path, n: int | None, seed: int, data: Path | None, output: Path, *, force: bool
) -> None:
    """Simulate rows from a fit's estimates.

    Parameters
    ----------
    folder : Path
        A fit's folder.
    n : int or None
        Number of rows.
    seed : int
        Seed.
    data : Path or None
        Regressors that the fit has no density of.
    output : Path
        A CSV or Parquet file.
    force : bool
        Whether the file may exist.
    """
    _check_file(output, force=force)
    frame = read_fit(folder).simulate(n, seed, data=data)
    print(f"Wrote {_write([frame], output)} rows to {output}")


def _answers(fit: Fit, data: Path, question: Question, head: int | None) -> Iterator[pd.DataFrame]:
    """Predictions and probabilities, batch by batch."""
    first = 0
    needs_response = question.kind == "density"
    for batch in batches(fit, data, response=needs_response):
        # Rows of a group are asked about together, also where few are shown.
        frame = batch if head is None or fit.n_groups is not None else batch.head(head)
        columns: dict[str, Any] = {"row": np.arange(first, first + len(frame))}
        if fit.model.formula is not None:
            columns |= _predictions(fit, frame, question)
        probabilities = fit.responsibilities(frame, use_response=False)
        columns |= {f"p_{k}": p for k, p in enumerate(probabilities.T)}
        found = pd.DataFrame(columns)
        yield found if head is None else found.head(head)
        first += len(frame)
        if head is not None:
            return


def _predictions(fit: Fit, frame: pd.DataFrame, question: Question) -> dict[str, Any]:
    found = fit.predict(
        frame, question.kind, q=question.q, level=question.level, response=question.response
    )
    if isinstance(found, pd.DataFrame):
        return {f"mean_{name}": found[name].to_numpy() for name in found.columns}
    names = {
        "quantile": [f"q_{level:g}" for level in question.q],
        "interval": ["lower", "upper"],
    }.get(question.kind, [question.kind])
    return dict(zip(names, found.reshape(len(frame), -1).T, strict=True))


def _check_file(output: Path, *, force: bool) -> None:
    if output.suffix not in (".csv", ".parquet"):
        raise FileError(f"the output {str(output)!r} must end in .csv or .parquet.")
    if output.is_dir() or (output.exists() and not force):
        raise FileError(f"{str(output)!r} exists; choose another output or add --force.")


def _write(frames: Iterable[pd.DataFrame], output: Path) -> int:
    """Write frames to a file that appears only when it is complete."""
    output.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(prefix=".clusterwise-", dir=output.parent)
    os.close(number)
    scratch = Path(name)
    try:
        writer = _write_csv if output.suffix == ".csv" else _write_parquet
        n_rows = writer(frames, scratch)
        mask = os.umask(0)
        os.umask(mask)
        scratch.chmod(0o666 & ~mask)
        os.replace(scratch, output)
    finally:
        scratch.unlink(missing_ok=True)
    return n_rows


def _write_csv(frames: Iterable[pd.DataFrame], path: Path) -> int:
    n_rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for frame in frames:
            frame.to_csv(file, index=False, header=not n_rows)
            n_rows += len(frame)
    return n_rows


def _write_parquet(frames: Iterable[pd.DataFrame], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_rows, writer = 0, None
    try:
        for frame in frames:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            n_rows += len(frame)
    finally:
        if writer is not None:
            writer.close()
    return n_rows
