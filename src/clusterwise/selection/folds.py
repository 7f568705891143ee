"""Rows that are held out, and how well those that are not predict them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from clusterwise.assembly.prepare import WEIGHT
from clusterwise.core.errors import OptionError
from clusterwise.core.rows import BLOCK_ROWS
from clusterwise.fit import Fit
from clusterwise.frames.table import check_columns, open_table


def read_all(data: Any) -> pd.DataFrame:
    """All rows and columns of a table, in memory."""
    table = open_table(data)
    frames = list(table.batches(table.names, BLOCK_ROWS))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=table.names)


def make_folds(
    n_rows: int, n_folds: int, rng: np.random.Generator, groups: np.ndarray | None = None
) -> np.ndarray:
    """The fold of each row, at random, folds being of one size as nearly as can be.

    Parameters
    ----------
    n_rows
        Number of rows.
    n_folds
        Number of folds.
    rng
        Source of randomness.
    groups
        (n,) what group each row is of; the rows of a group go into one fold. Groups come in
        random order, each into the fold with the fewest rows so far.

    Returns
    -------
    numpy.ndarray
        (n,) whole numbers from 0.

    Raises
    ------
    OptionError
        Where there are more folds than rows or groups.
    """
    kinds, codes = np.unique(np.arange(n_rows) if groups is None else groups, return_inverse=True)
    what = "rows" if groups is None else "groups"
    if not 2 <= n_folds <= len(kinds):
        raise OptionError(
            f"n_folds={n_folds!r} must be at least 2 and at most the number of {what}, "
            f"{len(kinds)}."
        )
    sizes, filled = np.bincount(codes.ravel()), np.zeros(n_folds, int)
    fold = np.empty(len(kinds), int)
    for group in rng.permutation(len(kinds)):
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    return fold[codes.ravel()]


def group_column(frame: pd.DataFrame, groups: str | None) -> np.ndarray | None:
    """Codes (n,) of the groups that rows are of; None without groups."""
    if groups is None:
        return None
    check_columns([groups], list(frame.columns))
    return pd.factorize(frame[groups])[0]


def held_out(fit: Fit, frame: pd.DataFrame, conditional: bool) -> tuple[np.ndarray, np.ndarray]:
    """Log densities of rows that a fit has not seen, and their weights.

    Parameters
    ----------
    fit
        A fit to other rows.
    frame
        The rows.
    conditional
        Whether to score p(y | x) where the model has p(x, y).

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        (n,) each, n being the number of groups where those of a group share a cluster.
    """
    if conditional:
        with np.errstate(divide="ignore"):
            scores = np.log(np.asarray(fit.predict(frame, kind="density")))
    else:
        scores = fit.score_samples(frame)
    if fit.n_groups is not None:
        # Weights are those of rows in their group; each group counts once.
        return scores, np.ones(len(scores))
    encoder = fit.reader.encoder
    if WEIGHT not in encoder.designs:
        return scores, np.ones(len(scores))
    return scores, encoder.encode(frame, [WEIGHT])[WEIGHT][:, 0]
