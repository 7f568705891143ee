"""The rows that a plot shows: all, or a sample that is the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from clusterwise.core.errors import DataError, OptionError
from clusterwise.frames.table import check_columns, open_table

if TYPE_CHECKING:
    from clusterwise.fit import Fit

MAX_ROWS = 5_000
_BATCH = 65_536
_SEED = 7_105_112_108


class Shown(NamedTuple):
    """Rows that a plot shows, of how many, and how many were left out for missing values."""

    frame: pd.DataFrame
    n_rows: int
    incomplete: int = 0

    @property
    def note(self) -> str:
        """What the title says where these are not all rows."""
        n = len(self.frame) + self.incomplete
        said = [f"{n:,} of {self.n_rows:,} rows, at random"] if self.n_rows > n else []
        if self.incomplete:
            said.append(f"{self.incomplete:,} with missing values left out")
        return "; ".join(said)


def shown_rows(
    fit: Fit,
    data: Any,
    also: Sequence[str] = (),
    most: int | None = None,
    *,
    complete: bool = False,
) -> Shown:
    """At most 5,000 rows, or `most`, with the columns that the fit and the plot need.

    Rows of a group stay together. `complete` leaves out rows with missing values.
    """
    most = MAX_ROWS if most is None else most
    table = open_table(data)
    check_columns(also, table.names)
    encoder, group = fit.reader.encoder, fit.reader.layout.groups
    designs = [name for name in encoder.designs if name != "weight"]
    needed = [v for design in designs for v in encoder.variables(design)]
    wanted: list[str] = [*needed, *also, *([] if group is None else [group])]
    columns = list(dict.fromkeys(wanted))
    # Data may be made with a small seed; keys equal to a column would pick its smallest values.
    rng = np.random.default_rng(_SEED)
    together = None if group is None else _some_groups(fit.reader.group_numbers(data), most, rng)
    kept, keys, n_rows = pd.DataFrame(), np.empty(0), 0
    for frame in table.batches(columns, _BATCH):
        # The rows with the smallest random keys are a sample without replacement.
        joined = pd.concat([kept, frame], ignore_index=True) if n_rows else frame
        if together is None:
            new = rng.random(len(frame))
        else:
            new = np.where(together[n_rows : n_rows + len(frame)], 0.0, np.inf)
        keys = np.concatenate([keys, new])
        chosen = np.sort(np.argsort(keys)[:most]) if together is None else np.isfinite(keys)
        kept, keys = joined.loc[chosen].reset_index(drop=True), keys[chosen]
        n_rows += len(frame)
    if not complete:
        return Shown(kept, n_rows)
    whole = kept.dropna(subset=list(dict.fromkeys(needed))).reset_index(drop=True)
    if not len(whole):
        raise DataError("Every row has missing values in the model's columns; none can be drawn.")
    return Shown(whole, n_rows, len(kept) - len(whole))


def _some_groups(numbers: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Which rows (n,) are of some groups, drawn at random, with at most so many or one group."""
    sizes = np.bincount(numbers)
    order = rng.permutation(sizes.size)
    fits = np.cumsum(sizes[order]) <= most
    fits[0] = True
    return np.isin(numbers, order[fits])


def jitter(n: int) -> np.ndarray:
    """Numbers between -1 and 1 that keep equal points apart, the same every time."""
    return np.random.default_rng(_SEED + 1).uniform(-1, 1, n)


def response_of(fit: Fit, response: str | None, instead: str) -> tuple[str, int]:
    """Name and part number of a response, the first by default."""
    names = dict(fit.reader.layout.responses)
    if not names:
        raise OptionError(f"The model has no response to plot; {instead}")
    if response is None:
        return next(iter(names.items()))
    if response not in names:
        raise OptionError(f"response={response!r}: name one of {', '.join(map(repr, names))}.")
    return response, names[response]


def regressors_of(fit: Fit, response: str) -> tuple[str, ...]:
    """Columns of the data that the regression of a response is on."""
    number = [name for name, _ in fit.reader.layout.responses].index(response)
    return fit.reader.encoder.variables(f"regressors:{number}")


def levels_of(fit: Fit, variable: str) -> list[Any] | None:
    """Levels of a categorical column, None of a numeric one."""
    levels = fit.reader.encoder.levels(variable)
    return None if levels is None else list(levels)


def reference_row(fit: Fit, frame: pd.DataFrame) -> dict[str, Any]:
    """Each column's mean, the middle value of a number of trials, or its first level."""
    encoder = fit.reader.encoder
    trials = {v for d in encoder.designs if d.startswith("trials:") for v in encoder.variables(d)}
    found = {}
    for name in frame.columns:
        if name == fit.reader.layout.groups:
            found[name] = frame[name].iloc[0]
        elif name in _known(fit) and (levels := levels_of(fit, name)) is not None:
            found[name] = levels[0]
        elif not pd.api.types.is_numeric_dtype(frame[name]):
            found[name] = frame[name].iloc[0]
        elif name in trials:
            found[name] = np.quantile(frame[name], 0.5, method="lower")
        else:
            found[name] = float(frame[name].to_numpy(float).mean())
    return found


def _known(fit: Fit) -> set[str]:
    encoder = fit.reader.encoder
    return {v for design in encoder.designs for v in encoder.variables(design)}


def grid_of(fit: Fit, frame: pd.DataFrame, variable: str, size: int) -> np.ndarray:
    """Values of a column from its least to its largest, or its levels."""
    levels = levels_of(fit, variable)
    if levels is not None:
        return np.asarray(levels, dtype=object)
    values = frame[variable].to_numpy(float)
    return np.linspace(values.min(), values.max(), size)
