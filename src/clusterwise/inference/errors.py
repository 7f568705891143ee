"""Standard errors of estimates, in data units, from the observed information."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pandas as pd

from clusterwise.assembly.layout import Layout
from clusterwise.assembly.units import in_data_units
from clusterwise.core.errors import DataError
from clusterwise.core.runtime import double_precision
from clusterwise.engines.information import Information, constrained
from clusterwise.engines.relabelling import reorder
from clusterwise.inference.estimates import NOT_IDENTIFIED, STICK, Estimates

_STEP = 1e-4
_UNIDENTIFIED = 1e-7
_INVOLVED = 1e-2
_STATIONARY = 0.05
_NAMED = 8


@dataclass(frozen=True)
class StandardErrors:
    """Standard errors of point estimates, on the data's own scale.

    Each frame has the rows and columns of the fit's own; what is known has error zero, and terms
    that are not identified are left out.

    Attributes
    ----------
    table
        Of all that `Fit.summary` shows: one row a component.
    weights, gates, coefficients, dispersion, means
        As those of the fit. Gates are relative to component 0, whose own are known.
    covariance
        Covariances between all entries of `table`, (quantity, component) by the same.
    notes
        What is awkward about them.
    """

    table: pd.DataFrame
    weights: pd.Series
    gates: pd.DataFrame
    coefficients: pd.DataFrame
    dispersion: pd.DataFrame
    means: pd.DataFrame
    covariance: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        frame = self.table.T
        frame.columns = [f"component {label}" for label in frame.columns]
        text = frame.to_string(float_format=lambda value: f"{value:.5g}")
        return "\n".join(["Standard errors", text, *(f"Note: {note}" for note in self.notes)])

    __repr__ = __str__


def estimate_frames(estimates: Estimates) -> dict[str, pd.DataFrame]:
    """What has an error: the table of the summary, and the estimates by kind, as frames."""
    coefficients = estimates.coefficients()
    gone = [column for column in coefficients.columns if _term(column) in _lost(estimates, column)]
    table, gates, gate = estimates.table(None), estimates.gates(), estimates.layout.gate
    unknown = [c for c in table.columns if c == STICK or str(c).endswith(NOT_IDENTIFIED)]
    return {
        "table": table.drop(columns=unknown),
        "weights": pd.DataFrame({"weight": estimates.values.weights}, index=estimates.components),
        "gates": gates if gate is None else gates.iloc[:, list(gate.kept_terms)],
        "coefficients": coefficients.drop(columns=gone),
        "dispersion": estimates.dispersion(),
        "means": estimates.means(),
    }


def beside(table: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """A table of estimates with the errors of each column after it."""
    found = {}
    for column in table.columns:
        found[column] = table[column]
        if column in errors.columns:
            found[f"{column} (se)"] = errors[column]
    return pd.DataFrame(found, index=table.index)


@double_precision
def standard_errors(
    layout: Layout,
    order: np.ndarray,
    information: Information,
    averaged: Callable[[Any], Any],
) -> StandardErrors:
    """Standard errors by the delta method.

    Parameters
    ----------
    layout
        How estimates are read.
    order
        (k,): the engine's number of each component.
    information
        At the estimates.
    averaged
        Fills in the weights of parameters, which lead with their number, where these are averages
        over rows.

    Raises
    ------
    DataError
        Where the information is singular or not positive definite; the message names the
        parameters.
    """
    d = information.at.size
    steps = _STEP * np.concatenate([np.zeros((1, d)), np.eye(d), -np.eye(d)])
    points = averaged(constrained(information.coordinates, information.at + steps))
    points = jax.tree.map(np.asarray, points)
    frames = [_frames(layout, order, points, i) for i in range(2 * d + 1)]
    flat = np.array([_flat(one) for one in frames])
    jacobian = (flat[1 : d + 1] - flat[d + 1 :]).T / (2 * _STEP)
    own = frames[0]["table"]
    matrix = (information.matrix + information.matrix.T) / 2
    values, vectors = np.linalg.eigh(matrix)
    _check_identified(own, jacobian[: own.size], values, vectors)
    root = jacobian @ (vectors / np.sqrt(values))
    errors = np.sqrt(np.square(root).sum(axis=1))
    found, start = {}, 0
    for name, frame in frames[0].items():
        piece = errors[start : start + frame.size].reshape(frame.shape)
        found[name] = pd.DataFrame(piece, index=frame.index, columns=frame.columns)
        start += frame.size
    index = pd.MultiIndex.from_product([own.columns, own.index], names=["quantity", "component"])
    by_quantity = root[np.arange(own.size).reshape(own.shape).T.ravel()]
    return StandardErrors(
        found["table"],
        found["weights"]["weight"],
        found["gates"],
        found["coefficients"],
        found["dispersion"],
        found["means"],
        pd.DataFrame(by_quantity @ by_quantity.T, index=index, columns=index),
        _notes(information.gradient @ vectors / np.sqrt(values)),
    )


def _frames(layout: Layout, order: np.ndarray, points: Any, i: int) -> dict[str, pd.DataFrame]:
    one = jax.tree.map(lambda leaf: leaf[i], points)
    return estimate_frames(Estimates(layout, in_data_units(layout, reorder(one, order, axis=0))))


def _flat(frames: dict[str, pd.DataFrame]) -> np.ndarray:
    return np.concatenate([frame.to_numpy(float).ravel() for frame in frames.values()])


def _check_identified(
    table: pd.DataFrame, jacobian: np.ndarray, values: np.ndarray, vectors: np.ndarray
) -> None:
    """Refuse directions along which the likelihood does not fall."""
    wrong = values < _UNIDENTIFIED
    if not wrong.any():
        return
    along = np.linalg.norm(jacobian @ vectors[:, wrong], axis=1)
    involved = along > _INVOLVED * np.linalg.norm(jacobian, axis=1)
    names = [f"{q} of component {k}" for k in table.index for q in table.columns]
    named = [name for name, one in zip(names, involved, strict=True) if one]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    what = "is not a maximum" if values[0] < -_UNIDENTIFIED else "is flat"
    raise DataError(
        f"There are no standard errors: at these estimates the likelihood {what} in the direction "
        f"of {', '.join(named[:_NAMED])}{more}. Ask for fewer components or terms, use "
        "prior='default', or compare fit.restarts."
    )


def _notes(score: np.ndarray) -> tuple[str, ...]:
    """What a score in units of its standard deviations says of an optimum not reached."""
    far = float(np.linalg.norm(score))
    if far <= _STATIONARY:
        return ()
    return (
        f"The estimates are not at the optimum: it is about {far:.2g} standard errors away. Fit "
        "with a smaller tol or larger max_iter.",
    )


def _lost(estimates: Estimates, column: Any) -> set[str]:
    """Terms that are not identified in the regression that a column of coefficients is of."""
    found = set()
    for name, i in estimates.layout.responses:
        part = estimates.layout.parts[i]
        if not isinstance(column, tuple) or column[0] in (name, *part.predictors):
            found |= {t for j, t in enumerate(part.terms) if j not in part.kept_terms}
    return found


def _term(column: Any) -> str:
    return column[-1] if isinstance(column, tuple) else column
