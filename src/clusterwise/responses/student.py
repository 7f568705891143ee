"""Student t response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from clusterwise.posteriors.specification import check_positive
from clusterwise.regression.likelihood import Expansion, Observed, Predictors
from clusterwise.regression.prior import ResponseSample
from clusterwise.regression.special import trigamma
from clusterwise.responses.location import AbstractLocation

_NORMAL_MAD = 0.6745


@dataclass(frozen=True)
class StudentT(AbstractLocation):
    """A response about a line with heavy tails, so that outliers weigh little.

    With sigma the scale and nu the degrees of freedom (Lange, Little and Taylor 1989, Journal of
    the American Statistical Association 84). Where nu is learned, log(nu) has a normal prior about
    log(10) with standard deviation 1: most of its mass is where data can tell, as in the prior of
    Juárez and Steel (2010, Journal of Business and Economic Statistics 28).

    Parameters
    ----------
    degrees_of_freedom
        Where they are known; None to estimate them in each cluster.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.StudentT(degrees_of_freedom=4).dispersion_names
    ('sigma',)
    """

    degrees_of_freedom: float | None = None
    name: ClassVar[str] = "student_t"
    dispersion_sd: ClassVar[tuple[float, ...]] = (2.0, 1.0)

    def __post_init__(self) -> None:
        if self.degrees_of_freedom is not None:
            check_positive("StudentT", degrees_of_freedom=self.degrees_of_freedom)

    @property
    def dispersion_names(self) -> tuple[str, ...]:
        return ("sigma", "nu") if self.degrees_of_freedom is None else ("sigma",)

    def _dof(self, predictors: Predictors) -> Any:
        return self.degrees_of_freedom or jnp.exp(predictors[2])

    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        mean, log_sigma = predictors[:2]
        dof = self._dof(predictors)
        square = jnp.square((observed[0] - mean) / jnp.exp(log_sigma))
        constant = gammaln((dof + 1) / 2) - gammaln(dof / 2) - 0.5 * jnp.log(dof * jnp.pi)
        return constant - log_sigma - (dof + 1) / 2 * jnp.log1p(square / dof)

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        dof, precision = self._dof(predictors), jnp.exp(-predictors[1])
        z = (observed[0] - predictors[0]) * precision
        square = z**2
        whole = dof + square
        weight = (dof + 1) / whole
        value = self.log_prob(observed, predictors)
        gradient = [weight * z * precision, weight * square - 1]
        twist = 2 * dof * weight / whole
        curvature = [
            [weight * (dof - square) / whole * precision**2, twist * z * precision],
            [twist * z * precision, twist * square],
        ]
        if self.degrees_of_freedom is not None:
            return Expansion(value, jnp.stack(gradient), _matrix(curvature))
        once = digamma((dof + 1) / 2) - digamma(dof / 2) - 1 / dof
        once = dof / 2 * (once - jnp.log1p(square / dof) + weight * square / dof)
        twice = (trigamma((dof + 1) / 2) - trigamma(dof / 2)) / 2 + 1 / dof**2
        bend = square / (dof * whole) - square * (whole + dof**2 + dof) / (dof * whole) ** 2
        twice = dof**2 / 2 * (twice + bend)
        tail = -dof * z * (square - 1) / whole**2
        gradient.append(once)
        curvature[0].append(tail * precision)
        curvature[1].append(tail * z)
        curvature.append([tail * precision, tail * z, -once - twice])
        return Expansion(value, jnp.stack(gradient), _matrix(curvature))

    def dispersion(self, values: np.ndarray, scale: float = 1.0) -> dict[str, np.ndarray]:
        found = super().dispersion(values)
        return {**found, "sigma": found["sigma"] * scale}

    def variance(self, constants: np.ndarray) -> np.ndarray:
        return np.exp(2 * constants[:, 0])

    def pooled(self, sample: ResponseSample) -> np.ndarray:
        middle = _median(sample.response[:, 0], sample.weight)
        sigma = _median(np.abs(sample.response[:, 0] - middle), sample.weight) / _NORMAL_MAD
        # A cluster's scale is below that of all rows about their median.
        log_sigma = np.log((sigma or np.sqrt(sample.variance)) / 2)
        return np.array([middle, log_sigma, np.log(10.0)])[: 1 + len(self.dispersion_names)]

    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> Any:
        from scipy import stats

        dof = self.degrees_of_freedom or np.exp(predictors[2])
        return stats.t(dof, predictors[0], np.exp(predictors[1]))


def _matrix(entries: list[list[Array]]) -> Float[Array, "m m k rows"]:
    return jnp.stack([jnp.stack(row) for row in entries])


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    """The median, rows counting with their weight."""
    order = np.argsort(values)
    below = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])
