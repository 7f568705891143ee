"""A fit as a folder: fit.json, rows.parquet, report.html to read, and model/ for `load`."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clusterwise.core.errors import FileError
from clusterwise.core.rows import BLOCK_ROWS
from clusterwise.fit import Fit
from clusterwise.frames.table import open_table
from clusterwise.inference.progress import Progress, progress_reporter
from clusterwise.io import load

SCHEMA = 1
FIT, ROWS, MODEL, PLOT = "fit.json", "rows.parquet", "model", "plot.png"
REPORT = "report.html"
_MODEL_FILES = {"model.json", "arrays.npz", "posterior.nc"}


def describe(fit: Fit, seed: int | None = None) -> dict[str, Any]:
    """Everything that fit.json says, as plain JSON values.

    Parameters
    ----------
    fit : Fit
        The fit.
    seed : int, optional
        The seed that it was made with.

    Returns
    -------
    dict
        Numbers on the data's own scale; None where a number is not finite.
    """
    from clusterwise.core.version import __version__

    model = fit.model
    return plain(
        {
            "schema": SCHEMA,
            "version": __version__,
            "formula": model.formula,
            "family": _named(model.family),
            "covariates": _named(model.covariates),
            "weights": _named(model.weights),
            "prior": _named(model.prior),
            "engine": fit.engine,
            "seed": seed,
            "n_rows": fit.n_rows,
            "n_groups": fit.n_groups,
            "n_components": fit.n_components,
            "converged": fit.converged,
            "n_iter": fit.n_iter,
            "log_likelihood": fit.log_likelihood,
            "n_parameters": fit.n_parameters,
            "bic": fit.bic,
            "icl": fit.icl,
            "seconds": fit.seconds,
            "missing": fit.missing.to_dict(),
            "notes": list(fit.notes),
            "not_identified": [
                {"response": response, "term": term} for response, term in fit.not_identified
            ],
            "restarts": fit.restarts.to_dict(orient="records"),
            "components": _components(fit),
        }
    )


def _components(fit: Fit) -> list[dict[str, Any]]:
    spread = fit.summary().table
    covariances = fit.covariances
    found, levels, profiles, gates = [], fit.levels, fit.profiles, fit.gates
    for k in range(fit.n_components):
        one: dict[str, Any] = {"weight": fit.weights[k]}
        if "weight (sd)" in spread:
            one["weight_sd"] = spread["weight (sd)"][k]
        if len(gates.columns):
            one["gates"] = gates.iloc[k].to_dict()
            if "stick" in gates.index.names:
                one["stick"] = int(gates.index.get_level_values("stick")[k])
        one["coefficients"] = _nested(fit.coefficients.loc[k])
        deviations = {
            key: spread[label][k]
            for key in fit.coefficients.columns
            if (label := f"{_label(key)} (sd)") in spread
        }
        if deviations:
            one["coefficients_sd"] = _nested(pd.Series(deviations))
        one["dispersion"] = _nested(fit.dispersion.loc[k])
        one["covariates"] = {}
        if len(fit.means.columns):
            matrix = covariances[k]
            one["covariates"] = {
                "mean": fit.means.loc[k].to_dict(),
                "covariance": {name: matrix.loc[name].to_dict() for name in matrix.index},
            }
        if levels:
            shares = {name: frame.loc[k].to_dict() for name, frame in levels.items()}
            one["covariates"]["levels"] = shares
        if profiles:
            own = {name: frame.loc[k].to_dict() for name, frame in profiles.items()}
            one["covariates"]["profiles"] = own
        found.append(one)
    return found


def _label(key: str | tuple[str, str]) -> str:
    """What the summary calls a coefficient."""
    return key if isinstance(key, str) else f"{key[0]}: {key[1]}"


def _nested(values: pd.Series) -> dict[str, Any]:
    """{name: value}, or {response: {name: value}} with several responses."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(key, tuple):
            found.setdefault(key[0], {})[key[1]] = value
        else:
            found[str(key)] = value
    return found


def _named(value: Any) -> Any:
    """Specifications as plain values: names as they are, objects with what they were made of."""
    if is_dataclass(value) and not isinstance(value, type):
        made_of = {field.name: _named(getattr(value, field.name)) for field in fields(value)}
        return {"kind": type(value).__name__, **made_of}
    if isinstance(value, Mapping):
        return {str(key): _named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def plain(value: Any) -> Any:
    """A value as JSON has it, without NaN, infinity and NumPy."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def batches(fit: Fit, data: Any, *, response: bool) -> Iterator[pd.DataFrame]:
    """Read the columns that a fit needs, and check their values.

    Parameters
    ----------
    fit : Fit
        The fit.
    data : frame or path
        The rows.
    response : bool
        Whether the response is needed too.

    Yields
    ------
    DataFrame
        The next rows.

    Raises
    ------
    DataError
        If a column is missing or holds values that cannot be used; rows are counted from the
        first of the whole table.
    """
    table = open_table(data)
    encoder = fit.reader.encoder
    left_out = ("weight",) if response else ("weight", "response:")
    designs = [name for name in encoder.designs if not name.startswith(left_out)]
    needed = dict.fromkeys(v for design in designs for v in encoder.variables(design))
    groups, first = fit.model.groups, 0
    frames = table.batches([*needed, *([groups] if groups else [])], BLOCK_ROWS)
    # Rows of a group may lie anywhere, and are asked about together.
    for frame in frames if groups is None else [pd.concat(frames, ignore_index=True)]:
        for _ in fit.reader.rows(frame, response=response, regressors=True, first=first):
            pass
        yield frame
        first += len(frame)


def write_rows(fit: Fit, data: Any, path: Path, report: Progress) -> None:
    """Write the cluster and the probabilities of every row, batch by batch.

    Parameters
    ----------
    fit : Fit
        The fit.
    data : frame or path
        The rows it was fitted to.
    path : Path
        The Parquet file.
    report : callable
        Takes what is being done, how much of it, and of how much.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"p_{k}" for k in range(fit.n_components)]
    schema = pa.schema(
        [("row", pa.int64()), ("cluster", pa.int32()), *((name, pa.float64()) for name in names)]
    )
    first = 0
    # A dictionary of probabilities that all differ costs time and saves nothing.
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for frame in batches(fit, data, response=True):
            probabilities = fit.responsibilities(frame)
            last = first + len(probabilities)
            columns = [np.arange(first, last), probabilities.argmax(axis=1).astype(np.int32)]
            columns += list(probabilities.T)
            writer.write_table(pa.table([pa.array(c) for c in columns], schema=schema))
            first = last
            report("rows", first, fit.n_rows)


def check_folder(folder: Path) -> None:
    """Refuse a folder whose content is not a fit's.

    Parameters
    ----------
    folder : Path
        Where a fit is to be written.

    Raises
    ------
    FileError
        If something else is there.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise FileError(f"{str(folder)!r} exists and is not a folder; choose another output.")
    if not _is_replaceable(folder):
        raise FileError(
            f"the folder {str(folder)!r} exists and is not a fit's; choose another output or "
            "empty it."
        )


def _is_replaceable(folder: Path) -> bool:
    names = {entry.name for entry in folder.iterdir()}
    if not names:
        return True
    model = folder / MODEL
    if not names <= {FIT, ROWS, MODEL, PLOT, REPORT} or FIT not in names or (folder / FIT).is_dir():
        return False
    if MODEL in names and not model.is_dir():
        return False
    if MODEL in names and not {entry.name for entry in model.iterdir()} <= _MODEL_FILES:
        return False
    try:
        document = json.loads((folder / FIT).read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(document, dict) and "schema" in document and "components" in document


def write_fit(
    fit: Fit,
    data: Any,
    folder: Path,
    *,
    seed: int | None = None,
    plot: Callable[[Path], None] | None = None,
    report: bool = True,
    progress: bool | Progress = False,
) -> None:
    """Write a fit to a folder, replacing a fit that is there only once all is written.

    Parameters
    ----------
    fit : Fit
        The fit.
    data : frame or path
        The rows it was fitted to.
    folder : Path
        A folder that does not exist, is empty, or holds a fit.
    seed : int, optional
        The seed that the fit was made with.
    plot : callable, optional
        Writes a plot to the path that it is given.
    report : bool
        Whether to write report.html, too.
    progress : bool or callable
        As for `Model.fit`.

    Raises
    ------
    FileError
        If the folder holds anything else.
    OSError
        If it cannot be written.
    """
    check_folder(folder)
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same file system, so that moving is renaming.
    scratch = Path(tempfile.mkdtemp(prefix=".clusterwise-", dir=target.parent))
    try:
        with progress_reporter(progress) as tell:
            write_rows(fit, data, scratch / ROWS, tell)
        fit.save(scratch / MODEL)
        if plot is not None:
            plot(scratch / PLOT)
        if report:
            fit.report(scratch / REPORT, data)
        text = json.dumps(describe(fit, seed), indent=2, ensure_ascii=False, allow_nan=False)
        (scratch / FIT).write_text(text + "\n", encoding="utf-8")
        target.mkdir(exist_ok=True)
        for name in (MODEL, ROWS, PLOT, REPORT, FIT):
            _move(scratch / name, target / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _move(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    if new.exists():
        os.replace(new, old)
    else:
        old.unlink(missing_ok=True)


def read_fit(folder: Path) -> Fit:
    """Load a fit from what `write_fit` or `Fit.save` wrote.

    Parameters
    ----------
    folder : Path
        The folder of the fit, or its model/.

    Returns
    -------
    Fit
        The fit.
    """
    return load(folder / MODEL if (folder / MODEL).is_dir() else folder)
