"""The families that the laws are run over, each with SciPy's density of its response.

A new family joins by one entry of `FAMILIES`. Densities and draws are written down here from the
families' definitions, and not by what the families themselves give to predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

import clusterwise as cw

N = 600
TRIALS = 8


@dataclass(frozen=True)
class FamilyCase:
    """A family, two clusters of it, and what SciPy says.

    Parameters
    ----------
    family
        As a user writes it.
    coefficients
        (2, p, m) of the clusters, of the intercept and x, for each main predictor.
    constants
        (2, c) predictors that do not depend on the row.
    dispersion
        From constants (c, ...) the dispersions by name, on the scale of reports.
    log_density
        Of y (n,) given main predictors (m, n) and constants (c, n).
    draw
        From a generator, main predictors (m, n) and constants (c, n).
    support
        Values to sum over, of discrete responses.
    cdf
        Of continuous ones, as `log_density`.
    mean
        Of continuous ones, from the main predictor.
    wrong
        Responses that the family cannot have, and a word of the error.
    """

    family: Any
    coefficients: Any
    constants: Any
    log_density: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    draw: Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
    dispersion: Callable[[np.ndarray], dict[str, np.ndarray]] = lambda constants: {}
    support: np.ndarray | None = None
    cdf: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None
    mean: Callable[[np.ndarray], np.ndarray] = np.asarray
    wrong: tuple[float, str] | None = None
    levels: int = 0
    """Number of levels, each a column."""
    constants_from: Callable[[np.ndarray], np.ndarray] = np.log
    """Of dispersions (c, ...), in the order of reports; the inverse of `dispersion`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the model, besides."""

    @property
    def trials(self) -> str | None:
        return "total" if self.family.takes_trials else None

    def model(self, **settings: Any) -> cw.Model:
        """Two clusters told apart by w, each with its regression of y on x."""
        given = {"covariates": "w", "n_components": 2, "family": self.family}
        given |= self.settings | settings
        return cw.Model("y ~ x", trials=self.trials, **given)

    def predictors(self, k: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Main predictors and constants of cluster k at x."""
        slopes = np.asarray(self.coefficients, float)[k]
        constants = np.asarray(self.constants, float).reshape(2, -1)[k]
        main = slopes[0][:, None] + slopes[1][:, None] * x
        return main, np.repeat(constants[:, None], x.size, axis=1)

    def data(self, seed: int, n: int = N) -> pd.DataFrame:
        """Rows of both clusters, the first with 60% of them."""
        rng = np.random.default_rng(seed)
        z = (rng.random(n) > 0.6).astype(int)
        x = rng.normal(size=n) + 1
        pairs = [self.draw(rng, *self.predictors(k, x)) for k in range(2)]
        w = rng.normal(size=n) + np.where(z == 0, -4.0, 4.0)
        columns = {"y": np.where(z == 0, *pairs), "x": x, "w": w, "z": z}
        return pd.DataFrame(columns).assign(total=TRIALS)

    def observed(self, y: np.ndarray) -> np.ndarray:
        """The columns (q, n) that the family's likelihood sees."""
        if self.levels:
            return (np.arange(self.levels)[:, None] == y).astype(float)
        return np.stack([y, np.full(y.size, TRIALS)]) if self.trials else y[None]


@cache
def fitted(name: str, engine: str, seed: int = 1) -> tuple[cw.Fit, pd.DataFrame]:
    """A fit of both clusters and its data, once for all laws."""
    case = FAMILIES[name]
    data = case.data(seed)
    engines = {"em": cw.EM(n_init=2), "vi": cw.VI(n_init=2)}
    model = case.model(prior="flat" if engine == "em" else "default")
    return model.fit(data, engine=engines[engine], random_state=0), data


# Densities


def _poisson(y, main, constants):
    return stats.poisson.logpmf(y, np.exp(main[0]))


def _binomial(link, trials):
    def log_density(y, main, constants):
        return stats.binom.logpmf(y, trials, link(main[0]))

    return log_density


def _draw_binomial(link, trials):
    return lambda rng, main, constants: rng.binomial(trials, link(main[0])).astype(float)


def _negative_binomial(y, main, constants):
    size, mean = np.exp(constants[0]), np.exp(main[0])
    return stats.nbinom.logpmf(y, size, size / (size + mean))


def _draw_negative_binomial(rng, main, constants):
    size = np.exp(constants[0])
    return rng.poisson(rng.gamma(size, np.exp(main[0]) / size)).astype(float)


def _gamma(y, main, constants):
    shape = np.exp(constants[0])
    return stats.gamma.logpdf(y, shape, scale=np.exp(main[0]) / shape)


def _gamma_cdf(y, main, constants):
    shape = np.exp(constants[0])
    return stats.gamma.cdf(y, shape, scale=np.exp(main[0]) / shape)


def _draw_gamma(rng, main, constants):
    shape = np.exp(constants[0])
    # Of a small shape some underflow, and no gamma response is zero.
    return np.maximum(rng.gamma(shape, np.exp(main[0]) / shape), np.finfo(float).tiny)


def _student(dof):
    def parts(main, constants):
        return dof or np.exp(constants[1]), main[0], np.exp(constants[0])

    def log_density(y, main, constants):
        return stats.t.logpdf(y, *parts(main, constants))

    def cdf(y, main, constants):
        return stats.t.cdf(y, *parts(main, constants))

    def draw(rng, main, constants):
        own, location, scale = parts(main, constants)
        return location + scale * rng.standard_t(own, main[0].shape)

    return {"log_density": log_density, "cdf": cdf, "draw": draw}


def _zero_inflated(y, main, constants):
    zero = special.expit(constants[0])
    return np.log(zero * (y == 0) + (1 - zero) * stats.poisson.pmf(y, np.exp(main[0])))


def _draw_zero_inflated(rng, main, constants):
    other = rng.random(main[0].shape) < special.expit(constants[0])
    return np.where(other, 0.0, rng.poisson(np.exp(main[0])))


def _categorical_shares(main, constants):
    odds = np.exp(np.concatenate([np.zeros_like(main[:1]), main]))
    return odds / odds.sum(axis=0)


def _ordinal_shares(main, constants):
    thresholds = np.concatenate([np.zeros_like(main), np.cumsum(np.exp(constants), axis=0)])
    below = [np.zeros(main[0].shape), *special.expit(thresholds - main[0])]
    return np.diff([*below, np.ones(main[0].shape)], axis=0)


def _of_levels(shares):
    def log_density(y, main, constants):
        chosen = np.broadcast_to(y, main[0].shape).astype(int)
        return np.log(np.take_along_axis(shares(main, constants), chosen[None], axis=0)[0])

    def draw(rng, main, constants):
        below = np.cumsum(shares(main, constants), axis=0)
        return (below < rng.random(main[0].shape)).sum(axis=0).astype(float)

    return {"log_density": log_density, "draw": draw}


def _named(*names):
    return lambda constants: {name: np.exp(own) for name, own in zip(names, constants, strict=True)}


def _one(*clusters):
    """Coefficients of one main predictor: intercept and slope of each cluster."""
    return [[[a], [b]] for a, b in clusters]


COUNTS = np.arange(400.0)


def binomial(link: str, inverse: Callable[[np.ndarray], np.ndarray]) -> FamilyCase:
    """Successes out of some trials, with a link and its inverse."""
    return FamilyCase(
        cw.Binomial(link=link),
        _one((-0.5, 0.7), (0.5, -0.5)),
        [[], []],
        _binomial(inverse, TRIALS),
        _draw_binomial(inverse, TRIALS),
        support=np.arange(TRIALS + 1.0),
        wrong=(TRIALS + 1, "number of trials"),
    )


_counts = {"support": COUNTS, "wrong": (2.5, "not a count")}
_lines = _one((1.0, 0.5), (2.0, -0.6))

FAMILIES: dict[str, FamilyCase] = {
    "poisson": FamilyCase(
        cw.Poisson(),
        _lines,
        [[], []],
        _poisson,
        lambda rng, main, constants: rng.poisson(np.exp(main[0])).astype(float),
        **_counts,
    ),
    "bernoulli": FamilyCase(
        cw.Bernoulli(),
        _one((-1.0, 1.5), (0.5, -1.0)),
        [[], []],
        _binomial(special.expit, 1),
        _draw_binomial(special.expit, 1),
        support=np.arange(2.0),
        wrong=(2.0, "neither 0 nor 1"),
    ),
    "binomial_probit": binomial("probit", special.ndtr),
    "negative_binomial": FamilyCase(
        cw.NegativeBinomial(),
        _lines,
        [[0.7], [1.6]],
        _negative_binomial,
        _draw_negative_binomial,
        _named("size"),
        **_counts,
    ),
    "gamma": FamilyCase(
        cw.GammaResponse(),
        _lines,
        [[0.5], [1.5]],
        _gamma,
        _draw_gamma,
        _named("shape"),
        cdf=_gamma_cdf,
        mean=np.exp,
        wrong=(-1.0, "not positive"),
    ),
    "student": FamilyCase(
        cw.StudentT(degrees_of_freedom=4.0),
        _one((10.0, 2.0), (14.0, -3.0)),
        [[0.7], [0.0]],
        dispersion=_named("sigma"),
        **_student(4.0),
    ),
    "student_nu": FamilyCase(
        cw.StudentT(),
        _one((10.0, 2.0), (14.0, -3.0)),
        [[0.7, 0.9], [0.0, 1.3]],
        dispersion=_named("sigma", "nu"),
        **_student(None),
    ),
    "zero_inflated": FamilyCase(
        cw.ZeroInflatedPoisson(),
        _lines,
        [[-0.5], [-1.5]],
        _zero_inflated,
        _draw_zero_inflated,
        lambda constants: {"zero": special.expit(constants[0])},
        constants_from=special.logit,
        **_counts,
    ),
    "categorical": FamilyCase(
        cw.Categorical(),
        [[[0.5, -0.5], [0.8, 1.2]], [[0.0, 0.5], [-1.0, 0.4]]],
        [[], []],
        levels=3,
        support=np.arange(3.0),
        **_of_levels(_categorical_shares),
    ),
    "ordinal": FamilyCase(
        cw.Ordinal(),
        _one((0.5, 1.0), (1.5, -1.2)),
        [[0.2, 0.4], [-0.2, 0.3]],
        dispersion=lambda constants: {
            f"threshold {i + 2}": own for i, own in enumerate(np.cumsum(np.exp(constants), axis=0))
        },
        constants_from=lambda thresholds: np.log(np.diff(thresholds, axis=0, prepend=0.0)),
        levels=4,
        support=np.arange(4.0),
        **_of_levels(_ordinal_shares),
    ),
}

# With those that no law of families has to see once more: the other link, and a Gaussian response
# whose clusters have one slope.
RESPONSE_CASES = FAMILIES | {
    "binomial": binomial("logit", special.expit),
    "tied_gaussian": FamilyCase(
        cw.Gaussian(),
        _one((10.0, 2.0), (14.0, 2.0)),
        [[0.7], [0.0]],
        lambda y, main, constants: stats.norm.logpdf(y, main[0], np.exp(constants[0])),
        lambda rng, main, constants: rng.normal(main[0], np.exp(constants[0])),
        _named("sigma"),
        settings={"shared": "x"},
    ),
}


def with_family(name: str, family: Any) -> FamilyCase:
    """A case with other settings of its family."""
    return replace(FAMILIES[name], family=family)
