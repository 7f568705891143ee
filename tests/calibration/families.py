"""Families of responses that are calibrated: what is written down for each in `tests.families`.

A new family joins by one entry of `FAMILY_RESPONSES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

import clusterwise as cw
from clusterwise.posteriors.coefficients import Coefficients
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.prior import LinearFrame, ResponseSample
from clusterwise.regression.structure import INDEPENDENT, AbstractCoefficients, Structure
from tests.calibration.parts import AbstractPart
from tests.families.registry import RESPONSE_CASES, TRIALS, FamilyCase


@dataclass(frozen=True, eq=False)
class Generalised(AbstractPart):
    """A response with linear predictors: a family as its laws have it, with priors.

    Parameters
    ----------
    case
        The family, and the densities and draws that are written down for it.
    prior
        Of the coefficients: independent normal ones with a diagonal covariance.
    sample
        Rows of a response that the library centres the priors of dispersions at.
    centres, deviations
        Of these normal priors: what the documentation says they are, for `sample`.
    regressors
        Columns of the regressors, the constant first.
    shared
        Numbers of the regressors with one coefficient for all clusters.
    coefficients
        How the others go together.
    """

    case: FamilyCase
    prior: cw.Normal
    sample: np.ndarray
    centres: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    regressors: tuple[int, ...] = (0, 1)
    shared: tuple[int, ...] = ()
    coefficients: AbstractCoefficients = field(default=INDEPENDENT)

    @property
    def what(self) -> str:
        return "y1"

    @property
    def responses(self) -> tuple[int, ...]:
        """Columns of the response: after the constant and two regressors."""
        return tuple(range(3, 3 + max(1, self.case.levels)))

    @property
    def _trials(self) -> int | None:
        return 4 if self.case.trials else None

    @property
    def n_columns(self) -> int:
        """Columns of a row."""
        return 3 + len(self.case.observed(np.zeros(1)))

    @property
    def _m(self) -> int:
        """Number of predictors with regressors."""
        return np.shape(self.case.coefficients)[2]

    @property
    def _family(self) -> Any:
        return self.case.family.structured()

    @property
    def block(self) -> Any:
        return self._family.block(PartColumns(self.regressors, self.responses, None, self._trials))

    def build(self, k: int) -> Any:
        p, q = len(self.regressors), len(self.responses)
        observed = self.case.observed(self.sample)
        trials = np.full(self.sample.size, TRIALS) if self.case.trials else None
        sample = ResponseSample(observed[:q].T, trials, None, np.ones(self.sample.size))
        frame = LinearFrame(
            np.eye(p + q), p, np.eye(p), np.ones(q), np.zeros((p, q)), k, sample=sample
        )
        structure = Structure(tuple((place, ()) for place in self.shared), self.coefficients)
        return self._family.prior("the part", frame, self._given, structure)

    @property
    def _given(self) -> Any:
        return "default" if isinstance(self.coefficients, cw.Horseshoe) else self.prior

    def draw(self, rng: np.random.Generator, size: int, k: int) -> Coefficients:
        m, p, c = self._m, len(self.regressors), len(self.centres)
        mean = np.broadcast_to(self.prior.mean, (p,)).astype(float)
        spread = np.sqrt(np.broadcast_to(self.prior.covariance, (p,)).astype(float))
        slopes = mean + spread * rng.normal(size=(size, k, m, p))
        constants = self.centres + np.array(self.deviations) * rng.normal(size=(size, k, c))
        if self.shared:
            at = list(self.shared)
            slopes[..., at] = slopes[:, :1][..., at]
        own, logs, means = [j for j in range(p) if j not in self.shared], (), []
        if isinstance(self.coefficients, cw.Hierarchical):
            centre = slopes[:, :1][..., own]
            scales = self.coefficients.scale * np.abs(rng.standard_cauchy((size, 1, m, len(own))))
            slopes[..., own] = centre + scales * rng.normal(size=(size, k, m, len(own)))
            logs = (-2 * np.log(scales.reshape(size, 1, -1)),)
            means = [np.repeat(centre.reshape(size, 1, -1), k, axis=1)]
        if isinstance(self.coefficients, cw.Horseshoe):
            # The intercept is not shrunk.
            each = np.abs(rng.standard_cauchy((size, k, m, len(own) - 1)))
            every = self.coefficients.scale * np.abs(rng.standard_cauchy((size, k, 1, 1)))
            slopes[..., own[1:]] = each * every * rng.normal(size=each.shape)
            pairs = (each.reshape(size, k, -1), every.reshape(size, k, 1))
            logs = tuple(-2 * np.log(one) for one in pairs)
        flat = slopes.reshape(size, k, m * p)
        return Coefficients(np.concatenate([flat, constants, *means], axis=2), logs)

    def _parted(self, parameters: Any) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (..., k, m, p) and constants (..., k, c)."""
        values = np.asarray(parameters.values)
        m, p, c = self._m, len(self.regressors), len(self.centres)
        slopes = values[..., : m * p].reshape(*values.shape[:-1], m, p)
        return slopes, values[..., m * p : m * p + c]

    def simulate(self, parameters: Any, values: Any, labels: Any, keys: Any) -> np.ndarray:
        rng = np.random.default_rng(np.asarray(jax.random.key_data(keys)).ravel())
        values, labels = np.asarray(values).copy(), np.asarray(labels)
        slopes, constants = self._parted(parameters)
        at = np.arange(len(labels))[:, None], labels
        main = np.einsum("snp,snmp->msn", values[..., list(self.regressors)], slopes[at])
        y = self.case.draw(rng, main, np.moveaxis(constants[at], -1, 0))
        observed = self.case.observed(y.ravel())
        values[..., 3:] = observed.T.reshape(*y.shape, -1)
        return values

    def log_density(self, parameters: Any, values: Any) -> np.ndarray:
        slopes, constants = self._parted(parameters)
        design = values[..., list(self.regressors)]
        main = np.einsum("...np,...kmp->m...nk", design, slopes)
        constants = np.moveaxis(constants, -1, 0)[..., None, :]
        constants = np.broadcast_to(constants, (len(self.centres), *main.shape[1:]))
        own = values[..., 3 : 3 + len(self.responses)]
        y = own.argmax(axis=-1) if self.case.levels else own[..., 0]
        with np.errstate(divide="ignore", over="ignore"):
            return self.case.log_density(y[..., None], main, constants)

    def mean(self, parameters: Any, point: np.ndarray) -> np.ndarray:
        slopes, _ = self._parted(parameters)
        return slopes[..., 0, :] @ point[list(self.regressors)]

    def quantities(self, parameters: Any, prior: Any) -> dict[str, Any]:
        slopes, constants = self._parted(parameters)
        found = {"squared coefficients of y1": np.square(slopes).sum(axis=(-3, -2, -1))}
        for i in range(len(self.centres)):
            found[f"dispersion {i + 1} of y1"] = constants[..., i].mean(axis=-1)
        for i, logs in enumerate(parameters.log_precisions):
            found[f"scales {i + 1} of y1"] = np.asarray(logs).mean(axis=(-2, -1))
        return found


def _family(
    name: str,
    prior: cw.Normal,
    sample: Sequence[float] = (0.0, 1.0),
    centres: Sequence[float] = (),
    deviations: Sequence[float] = (),
    **more: Any,
) -> tuple[Generalised, ...]:
    case = RESPONSE_CASES[name]
    sizes = tuple(map(float, centres)), tuple(map(float, deviations))
    return (Generalised(case, prior, np.array(sample, float), *sizes, **more),)


_LOG_MEAN = cw.Normal([0.7, 0.0], [1.0, 0.4])
_LOG_ODDS = cw.Normal([0.2, 0.0], [2.0, 2.0])
_LINE = cw.Normal([0.5, 0.0], [4.0, 2.0])
# The default of an intercept, about the mean of the sample; slopes have a prior of their own.
_DEFAULT = cw.Normal(0.0, 25.0)

# Of each a sample that the library centres the priors of dispersions at, and what they are then.
FAMILY_RESPONSES: dict[str, tuple[Generalised, ...]] = {
    "poisson": _family("poisson", _LOG_MEAN),
    "bernoulli": _family("bernoulli", _LOG_ODDS),
    "binomial": _family("binomial", _LOG_ODDS),
    "binomial, probit": _family("binomial_probit", cw.Normal([0.1, 0.0], [1.0, 0.6])),
    # Mean 2, variance 4: size 2.
    "negative binomial": _family(
        "negative_binomial", _LOG_MEAN, (0, 4), [np.log(2.0)], [2.0]
    ),
    # Mean 3, variance 1: shape 9.
    "gamma": _family("gamma", _LOG_MEAN, (2, 4), [np.log(9.0)], [2.0]),
    # Mean 2, variance 4: odds of another zero (4 - 2) / 2^2.
    "zero-inflated poisson": _family(
        "zero_inflated", _LOG_MEAN, (0, 4), [np.log(0.5)], [2.0]
    ),
    # The median absolute deviation of a normal response with sigma 2; the prior is about 1.
    "student t": _family("student", _LINE, (-1.349, 0, 1.349), [0.0], [2.0]),
    "student t, nu": _family(
        "student_nu", _LINE, (-1.349, 0, 1.349), [0.0, np.log(10.0)], [2.0, 1.0]
    ),
    "categorical": _family("categorical", _LOG_ODDS, (0, 1, 2)),
    # All levels alike: thresholds log(1/3), 0, log(3), all log(3) apart.
    "ordinal": _family(
        "ordinal", cw.Normal([1.0, 0.0], [2.0, 2.0]), (0, 1, 2, 3),
        [np.log(np.log(3.0))] * 2, [1.5] * 2,
    ),
    # Variance 4; the prior of sigma is about half the deviation.
    "gaussian, shared slope": _family(
        "tied_gaussian", _LINE, (-2, 2), [0.0], [2.0], shared=(1,)
    ),
    "gaussian, horseshoe": _family(
        "tied_gaussian", _DEFAULT, (-2, 2), [0.0], [2.0],
        regressors=(0, 1, 2), coefficients=cw.Horseshoe(0.5),
    ),
    "binomial, hierarchical": _family(
        "binomial", _LOG_ODDS, coefficients=cw.Hierarchical(0.5)
    ),
}  # fmt: skip
