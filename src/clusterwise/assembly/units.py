"""Parameters in the data's own units."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from clusterwise.assembly.build import to_data_units
from clusterwise.assembly.layout import Layout


class PartValues(NamedTuple):
    """One part's parameters, with any leading axes before the cluster's.

    Coefficients (..., k, p, q) of all its terms, those that are not identified being zero, and
    covariances (..., k, q, q) of the responses that are modelled.
    """

    coefficients: np.ndarray
    covariance: np.ndarray


class Values(NamedTuple):
    """A model's parameters in data units: weights, concentration, and each part's."""

    weights: np.ndarray
    concentration: np.ndarray
    parts: tuple[PartValues, ...]


def in_data_units(layout: Layout, parameters: Any) -> Values:
    """Convert parameters from standard units; draws keep their leading axes."""
    weights, *linear = parameters.parts
    parts = []
    for part, value in zip(layout.parts, linear, strict=True):
        matrix, scale, shift = to_data_units(layout, part)
        standard = np.asarray(value.coefficients)
        kept = matrix @ standard * scale + shift
        coefficients = np.zeros((*kept.shape[:-2], len(part.terms), kept.shape[-1]))
        coefficients[..., list(part.kept_terms), :] = kept
        covariance = np.asarray(value.covariance) * np.outer(scale, scale)
        k, q = standard.shape[-3], scale.size
        covariance = np.broadcast_to(covariance, (*standard.shape[:-3], k, q, q))
        parts.append(PartValues(coefficients, covariance))
    return Values(
        np.exp(np.asarray(weights.log_weights)), np.asarray(weights.concentration), tuple(parts)
    )


def spread_in_data_units(layout: Layout, spread: tuple[Any, ...]) -> Values:
    """Standard deviations of weights and coefficients; a covariance has none here."""
    weights, *linear = spread
    parts = []
    for part, value in zip(layout.parts, linear, strict=True):
        matrix, scale, _ = to_data_units(layout, part)
        rows = matrix @ np.asarray(value.rows) @ matrix.T
        between_terms = np.sqrt(np.diagonal(rows, axis1=1, axis2=2))
        columns = np.sqrt(np.diagonal(np.asarray(value.columns), axis1=1, axis2=2)) * scale
        k, p, q = rows.shape[0], len(part.terms), scale.size
        coefficients = np.zeros((k, p, q))
        coefficients[:, list(part.kept_terms), :] = (
            between_terms[:, :, None] * np.broadcast_to(columns, (k, q))[:, None, :]
        )
        parts.append(PartValues(coefficients, np.full((k, q, q), np.nan)))
    return Values(np.sqrt(np.asarray(weights)), np.asarray(np.nan), tuple(parts))
