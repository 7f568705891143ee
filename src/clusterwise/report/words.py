"""The answer in plain words: how many clusters, how sure, and what sets them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from clusterwise.fit import Fit


_SEEN = 0.02
_FAR = 0.5
_MOST = 3
_TWICE = 1.5


def answer(fit: Fit, probabilities: np.ndarray | None) -> list[str]:
    """Sentences that a reader who knows no statistics can use.

    Parameters
    ----------
    fit : Fit
        The fit.
    probabilities : ndarray or None
        (n, k) of some rows, where there are any.

    Returns
    -------
    list of str
        The count and sizes, how sure rows and draws are, and how the answer was reached.
    """
    return [*_sizes(fit), *_certainty(probabilities), *_standing(fit)]


def _sizes(fit: Fit) -> list[str]:
    weights = fit.weights.to_numpy()
    seen = np.flatnonzero(weights >= _SEEN)
    shares = ", ".join(f"{weights[k]:.0%}" for k in seen)
    if fit.n_components == 1:
        return [f"One cluster describes all {fit.n_rows:,} rows; the model had no choice."]
    noun = "cluster" if seen.size == 1 else "clusters"
    text = f"{seen.size} {noun} among {fit.n_rows:,} rows, with shares of {shares}."
    rest = fit.n_components - seen.size
    if rest:
        text += (
            f" {rest} more of the {fit.n_components} that the model has room for hold less than "
            f"{_SEEN:.0%} each."
        )
    return [text]


def _certainty(probabilities: np.ndarray | None) -> list[str]:
    if probabilities is None or probabilities.shape[1] == 1:
        return []
    largest = probabilities.max(axis=1)
    clear = float((largest >= 0.9).mean())
    mean = float(largest.mean())
    how = "clearly" if clear >= 0.9 else "mostly" if clear >= 0.6 else "hardly"
    return [
        f"Clusters are {how} told apart: {clear:.0%} of the rows belong to one with a probability "
        f"of at least 90%, and the most probable cluster of a row has {mean:.0%} on average."
    ]


def _standing(fit: Fit) -> list[str]:
    found = []
    if not fit.converged:
        found.append("The fit has not converged: its numbers are provisional.")
    if fit.has_chains:
        flag, sentences = fit.verdict
        found.append(f"The chains are {flag}: {' '.join(sentences)}")
        return found
    chosen = fit.restarts[fit.restarts["chosen"]].iloc[0]
    if chosen["starts"] > 1:
        found.append(
            f"{chosen['reached']} of {chosen['starts']} starts ended in this answer, the best of "
            f"{len(fit.restarts)} that were seen."
            if not chosen["degenerate"]
            else "The answer is degenerate: see the notes."
        )
    return found


def differences(fit: Fit) -> list[list[str]]:
    """For each component what sets it apart from all rows, the most telling first.

    Parameters
    ----------
    fit : Fit
        The fit.

    Returns
    -------
    list of list of str
        Empty where a component is like the others.
    """
    weights = fit.weights.to_numpy() / fit.weights.sum()
    found = [
        [
            *_of_means(fit, weights, k),
            *_of_levels(fit, weights, k),
            *_of_coefficients(fit.coefficients, weights, k),
        ]
        for k in range(fit.n_components)
    ]
    return [[text for _, text in sorted(told, reverse=True)[:_MOST]] for told in found]


def _of_means(fit: Fit, weights: np.ndarray, k: int) -> list[tuple[float, str]]:
    means, found = fit.means, []
    within = np.stack([np.diagonal(own) for own in fit.covariances])
    for j, name in enumerate(means.columns):
        values = means[name].to_numpy()
        middle = weights @ values
        deviation = np.sqrt(weights @ (within[:, j] + np.square(values - middle)))
        away = (values[k] - middle) / deviation
        if abs(away) >= _FAR:
            side = "high" if away > 0 else "low"
            text = f"{side} {name} ({values[k]:.4g}; all rows: {middle:.4g})"
            found.append((abs(away), text))
    return found


def _of_levels(fit: Fit, weights: np.ndarray, k: int) -> list[tuple[float, str]]:
    found = []
    for name, frame in fit.levels.items():
        table = frame.to_numpy()
        gaps = table[k] - weights @ table
        j = int(np.argmax(gaps))
        if gaps[j] >= 0.15:
            text = (
                f"{name} is {frame.columns[j]} in {table[k, j]:.0%} (all rows: "
                f"{(weights @ table)[j]:.0%})"
            )
            found.append((4 * float(gaps[j]), text))
    return found


def _of_coefficients(
    coefficients: pd.DataFrame, weights: np.ndarray, k: int
) -> list[tuple[float, str]]:
    """Slopes that are far from the others', next to how much they differ in all."""
    found = []
    for label in coefficients.columns:
        name = label if isinstance(label, str) else f"{label[1]} on {label[0]}"
        if name.split(" on ")[0] == "Intercept":
            continue
        values = coefficients[label].to_numpy()
        if np.ptp(values) <= 1e-9 * np.abs(values).max(initial=0.0):
            continue
        middle = weights @ values
        spread = np.sqrt(weights @ np.square(values - middle))
        away = (values[k] - middle) / spread
        opposed = values[k] * middle < 0
        if abs(away) >= 1 or opposed:
            text = f"slope of {name} {values[k]:.3g} (average: {middle:.3g})"
            found.append((min(abs(away), _TWICE) * (1.5 if opposed else 1.0), text))
    return found


def joined(items: Sequence[str]) -> str:
    """Items as one phrase."""
    return "; ".join(items) if items else "like all rows on average"
