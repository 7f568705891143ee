"""Parameters in the data's own units."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from clusterwise.assembly.build import to_data_units
from clusterwise.assembly.layout import Layout, Part
from clusterwise.posteriors.coefficients import Coefficients
from clusterwise.posteriors.levels import Levels
from clusterwise.responses.generalised import AbstractGeneralised


class PartValues(NamedTuple):
    """One part's parameters, with any leading axes before the cluster's.

    Coefficients (..., k, p, q) of all its terms, those that are not identified being zero;
    dispersions (..., k) by name; covariances (..., k, q, q) of Gaussian columns that are modelled;
    probabilities (..., k, levels) of a categorical column; parameters (..., k) by name of another
    column that has a density of its own. Where clusters' coefficients are pooled, the means
    (..., p, q) and standard deviations of the distribution that they come from; NaN for terms that
    groups of clusters share.
    """

    coefficients: np.ndarray
    dispersion: dict[str, np.ndarray]
    covariance: np.ndarray | None = None
    levels: np.ndarray | None = None
    single: dict[str, np.ndarray] | None = None
    pooled_mean: np.ndarray | None = None
    pooled_sd: np.ndarray | None = None


class Values(NamedTuple):
    """A model's parameters in data units: weights, concentration, and each part's.

    Weights (..., k) that depend on covariates are averages over rows. They have gates (..., k, p)
    of all their terms, by the softmax relative to component 0, and by stick-breaking also the
    place (..., k) of each component's stick.
    """

    weights: np.ndarray
    concentration: np.ndarray
    parts: tuple[PartValues, ...]
    gates: np.ndarray | None = None
    sticks: np.ndarray | None = None


def in_data_units(layout: Layout, parameters: Any) -> Values:
    """Convert parameters from standard units; draws keep their leading axes."""
    weights, *linear = parameters.parts
    parts = []
    for part, value in zip(layout.parts, linear, strict=True):
        matrix, scale, shift = to_data_units(layout, part)
        if part.parameter_names:
            own = part.form.parameters(value, shift[0, 0], scale[0])
            parts.append(PartValues(_no_terms(next(iter(own.values()))), {}, single=own))
            continue
        if isinstance(value, Levels):
            probabilities = np.exp(np.asarray(value.log_probabilities))
            parts.append(_of_levels(probabilities))
            continue
        if isinstance(value, Coefficients):
            whole = np.asarray(value.values)
            main = _by_predictor(part, whole)
            p, m = main.shape[-2:]
            # All predictors of a standardised response but its location are constants.
            end = m * p + part.form.n_constants(len(part.responses))
            dispersion = part.form.dispersion(whole[..., m * p : end], scale[0])
            coefficients = _of_all_terms(part, matrix @ main * scale[:m] + shift[:, :m])
            parts.append(PartValues(coefficients, dispersion))
            if whole.shape[-1] > end:
                mean, deviation = _pooled(part, value, end, np.outer(np.diag(matrix), scale[:m]))
                mean = _where_known(matrix, mean) * scale[:m] + shift[:, :m]
                deviation = np.sqrt(_where_known(matrix**2, deviation**2)) * scale[:m]
                parts[-1] = parts[-1]._replace(
                    pooled_mean=_of_all_terms(part, mean),
                    pooled_sd=_of_all_terms(part, deviation),
                )
            continue
        standard = np.asarray(value.coefficients)
        covariance = np.asarray(value.covariance) * np.outer(scale, scale)
        k, q = standard.shape[-3], scale.size
        covariance = np.broadcast_to(covariance, (*standard.shape[:-3], k, q, q))
        sigma = {"sigma": np.sqrt(covariance[..., 0, 0])} if part.is_response else {}
        coefficients = _of_all_terms(part, matrix @ standard * scale + shift)
        parts.append(PartValues(coefficients, sigma, covariance))
    averages = np.exp(np.asarray(weights.log_weights))
    gate = layout.gate
    if gate is None:
        return Values(averages, np.asarray(weights.concentration), tuple(parts))
    matrix = to_data_units(layout, gate)[0]
    gates = _of_all_terms(gate, matrix @ weights.reported()[..., None])[..., 0]
    none = np.zeros(averages.shape[:-1])
    return Values(averages, none, tuple(parts), gates, weights.places())


def _of_levels(values: np.ndarray) -> PartValues:
    return PartValues(_no_terms(values[..., 0]), {}, levels=values)


def _no_terms(each: np.ndarray) -> np.ndarray:
    """No coefficients (..., k, 0, 0), for what has a number (..., k)."""
    return np.zeros((*each.shape, 0, 0))


def _by_predictor(part: Part, whole: np.ndarray) -> np.ndarray:
    """Coefficients (..., p, m) of the regressors, out of those of all predictors."""
    p, m = len(part.regressors), part.form.n_predictors(len(part.responses))
    main = whole[..., : m * p].reshape(*whole.shape[:-1], m, p)
    return np.swapaxes(main, -1, -2)


def _pooled(
    part: Part, value: Coefficients, end: int, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations (..., p, m) that coefficients have over clusters.

    In standard units; `units` (p, m) are by how much coefficients are more on the data's scale.
    """
    whole = np.asarray(value.values)
    mean = _by_predictor(part, whole[..., 0, :]).copy()
    deviation = np.zeros_like(mean)
    shared = dict(part.structure.shared)
    for place, groups in shared.items():
        if groups:
            mean[..., place, :] = deviation[..., place, :] = np.nan
    own = [i for i in range(mean.shape[-2]) if i not in shared]
    m = mean.shape[-1]
    # Behind them those of dispersions, where these are pooled, too.
    count = m * len(own)
    means = whole[..., 0, end : end + count].reshape(*mean.shape[:-2], m, len(own))
    mean[..., own, :] = np.swapaxes(means, -1, -2)
    known = part.coefficients.deviations(
        tuple(part.structure.terms[i] for i in own) * m, units[own].T.ravel()
    )
    if known is None:
        (log_precision,) = value.log_precisions
        known = np.exp(-np.asarray(log_precision)[..., 0, :count] / 2)
    spread = np.broadcast_to(known, (*mean.shape[:-2], count))
    spread = spread.reshape(*mean.shape[:-2], m, len(own))
    deviation[..., own, :] = np.swapaxes(spread, -1, -2)
    return mean, deviation


def _where_known(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A product in which NaN enters only where it counts for something."""
    missing = np.isnan(values)
    found = matrix @ np.where(missing, 0.0, values)
    return np.where((matrix != 0).astype(float) @ missing > 0, np.nan, found)


def _of_all_terms(part: Part, kept: np.ndarray) -> np.ndarray:
    found = np.zeros((*kept.shape[:-2], len(part.terms), kept.shape[-1]))
    found[..., list(part.kept_terms), :] = kept
    return found


def spread_in_data_units(layout: Layout, spread: tuple[Any, ...]) -> Values:
    """Standard deviations of weights and coefficients; a covariance has none here.

    Nor have average weights, where weights depend on covariates.
    """
    weights, *linear = spread
    parts = []
    for part, value in zip(layout.parts, linear, strict=True):
        matrix, scale, _ = to_data_units(layout, part)
        if part.parameter_names:
            parts.append(PartValues(_no_terms(np.zeros(weights.shape)), {}))
            continue
        if not part.is_response and part.form.by_level:
            parts.append(_of_levels(np.sqrt(np.asarray(value))))
            continue
        if isinstance(part.form, AbstractGeneralised):
            spreads = _spread_of_predictors(part, matrix, np.asarray(value.rows)) * scale[0]
            parts.append(PartValues(spreads, {}))
            continue
        rows = matrix @ np.asarray(value.rows) @ matrix.T
        between_terms = np.sqrt(np.diagonal(rows, axis1=1, axis2=2))
        columns = np.sqrt(np.diagonal(np.asarray(value.columns), axis1=1, axis2=2)) * scale
        k, q = rows.shape[0], scale.size
        kept = between_terms[:, :, None] * np.broadcast_to(columns, (k, q))[:, None, :]
        parts.append(PartValues(_of_all_terms(part, kept), {}))
    none, gate = np.asarray(np.nan), layout.gate
    if gate is None:
        return Values(np.sqrt(np.asarray(weights)), none, tuple(parts))
    root = weights.reported_root() @ to_data_units(layout, gate)[0].T
    deviations = np.sqrt(np.square(root).sum(axis=1))
    gates = _of_all_terms(gate, deviations[..., None])[..., 0]
    return Values(np.full(len(gates), np.nan), none, tuple(parts), gates)


def _spread_of_predictors(part: Part, matrix: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Standard deviations (k, p, m) from the covariance (k, d, d) of all coefficients."""
    p, found = len(part.regressors), []
    for i in range(part.form.n_predictors(len(part.responses))):
        block = covariance[:, i * p : (i + 1) * p, i * p : (i + 1) * p]
        found.append(np.sqrt(np.diagonal(matrix @ block @ matrix.T, axis1=1, axis2=2)))
    return _of_all_terms(part, np.stack(found, axis=-1))
