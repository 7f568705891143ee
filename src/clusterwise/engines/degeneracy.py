"""Optima that owe their likelihood to a vanishing variance.

The likelihood of a mixture with a variance for each cluster has no maximum: it grows without bound
where a cluster closes in on a few rows (Day 1969). Optima are judged by how unequal the clusters'
variances are, and against the variance of all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from clusterwise.engines.relabelling import by_weight

_COLLAPSED = 1e-7
_VANISHED = 1e-9


class Degeneracy(NamedTuple):
    """Judges parameters in standard units.

    `names` says what each part's covariance is called, `pooled` what it is in a single cluster;
    None for a part without one. `variances` take covariances (k or 1, q, q) from a part's
    parameters.
    The average leaves out clusters lighter than `least_weight`, which hold outliers. `weights`
    takes the clusters' weights (k,) from parameters of all parts.
    """

    names: tuple[str, ...]
    pooled: tuple[np.ndarray | None, ...]
    least_weight: float
    variances: tuple[Callable[[Any], np.ndarray], ...]
    weights: Callable[[Any], np.ndarray]
    kinds: np.ndarray | None = None
    """(k,) the same number for components that may trade places; None: all are alike."""

    def spuriousness(self, parameters: Any) -> float:
        """Sum over clusters of the trace of the average covariance in units of their own."""
        with np.errstate(divide="ignore"):
            return sum(
                float((1 / np.maximum(ratio, 0)).sum()) for _, ratio in self._ratios(parameters)
            )

    def collapsed(self, parameters: Any) -> tuple[str, ...]:
        """Clusters whose variance is zero next to the others' or that of all rows, in words."""
        reasons = [
            f"the {self.names[i]} of component {self._rank(parameters, int(k))} has collapsed to "
            "zero"
            for i, ratio in self._ratios(parameters)
            for k in np.flatnonzero(ratio[:, 0] < _COLLAPSED)
        ]
        for i, (part, pooled) in enumerate(zip(parameters.parts[1:], self.pooled, strict=True)):
            if pooled is None:
                continue
            relative = _relative(self.variances[i](part), pooled)[:, 0]
            if np.all(relative < _VANISHED):
                reasons.append(f"the {self.names[i]} is zero up to rounding in all components")
        return tuple(reasons)

    def smallest(self, parameters: Any) -> tuple[str, ...]:
        """The cluster whose variance is smallest relative to the average, in words."""
        ratios = self._ratios(parameters)
        if not ratios:
            return ()
        i, ratio = min(ratios, key=lambda pair: pair[1].min())
        k = int(ratio[:, 0].argmin())
        factor = float(1 / np.sqrt(ratio[k, 0]))
        return (
            f"its likelihood comes from component {self._rank(parameters, k)}, whose "
            f"{self.names[i]} is {factor:.0f} times smaller than the average one",
        )

    def _ratios(self, parameters: Any) -> list[tuple[int, np.ndarray]]:
        """Variances relative to the average, (k, q) ascending, where clusters have their own."""
        weights = self.weights(parameters)
        supported = np.where(weights >= self.least_weight, weights, 0.0)
        if supported.any():
            weights = supported / supported.sum()
        found = []
        for i, part in enumerate(parameters.parts[1:]):
            if self.pooled[i] is None:
                continue
            covariance = self.variances[i](part)
            if covariance.shape[0] == weights.size:
                average = np.einsum("k,kij->ij", weights, covariance)
                found.append((i, _relative(covariance, average)))
        return found

    def _rank(self, parameters: Any, k: int) -> int:
        """Number of a component once the largest weight comes first."""
        order = by_weight(np.log(self.weights(parameters)), self.kinds)
        return int(np.flatnonzero(order == k)[0])


def _relative(covariance: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Eigenvalues (k, q), ascending, of covariances in units of another."""
    whitening = np.linalg.inv(np.linalg.cholesky(unit))
    return np.linalg.eigvalsh(whitening @ covariance @ whitening.T)
