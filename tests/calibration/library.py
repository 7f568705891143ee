"""Simulation-based calibration of what a user calls: `Model.fit` with a sampling engine.

Data and priors are on scales far from one, so that starts, standard units, the way back to data
units and the relabelling of draws take part. Ranks are those of draws in `Fit.posterior`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import clusterwise as cw
from clusterwise.core.product_posterior import ProductParameters, ProductPosterior
from clusterwise.core.random import random_key
from clusterwise.core.runtime import double_precision
from clusterwise.posteriors.dirichlet import Weights
from clusterwise.posteriors.matrix_normal import LinearParameters
from clusterwise.posteriors.stick_breaking import StickBreakingPosterior
from tests.calibration.parts import Linear
from tests.calibration.registry import N_COLUMNS, draw_weights
from tests.calibration.sbc import Ranks, log_priors, summary
from tests.calibration.stories import quantities, simulate

N_DRAWS = 31
N_ROWS = 40
_CLUSTERS = 2
_THIN = 5
_X, _Y = 50.0, 0.01  # scales of covariates and responses
_CENTER = 1000.0
_COLUMNS = ("x1", "x2", "y1", "y2")
_POINT = np.array([1.0, _CENTER + 0.5 * _X, _CENTER - 0.5 * _X, 0.3 * _Y, 0.2 * _Y])

ENGINES: dict[str, Any] = {
    "gibbs": cw.Gibbs(num_warmup=100, num_samples=_THIN * N_DRAWS, num_chains=1, n_init=2),
    "nuts": cw.NUTS(num_warmup=150, num_samples=_THIN * N_DRAWS, num_chains=1, n_init=2),
}


@dataclass(frozen=True)
class Fitted:
    """A model as a user writes it, and the same as parts over five columns."""

    weights: Any
    responses: tuple[tuple[str, Linear], ...]
    densities: tuple[Linear, ...] = ()

    @property
    def parts(self) -> tuple[Linear, ...]:
        return (*self.densities, *(part for _, part in self.responses))

    @property
    def model(self) -> cw.Model:
        prior = {formula.split(" ~ ")[0]: part.prior for formula, part in self.responses}
        if self.densities:
            prior["covariates"] = self.densities[0].prior
        return cw.Model(
            [formula for formula, _ in self.responses],
            family=[part.owner for _, part in self.responses],
            n_components=_CLUSTERS,
            covariates=[part.owner for part in self.densities] or None,
            weights=self.weights,
            prior=prior,
        )

    def prior(self) -> ProductPosterior:
        weights = self.weights.prior(_CLUSTERS, flat=False)
        parts = (weights, *(part.build(_CLUSTERS) for part in self.parts))
        return jax.tree.map(jnp.asarray, ProductPosterior(parts))

    def draw(self, rng: np.random.Generator, size: int) -> ProductParameters:
        weights = draw_weights(self.weights, rng, size, _CLUSTERS)
        return ProductParameters((weights, *(p.draw(rng, size, _CLUSTERS) for p in self.parts)))


def _regression(formula: str, **options: Any) -> tuple[str, Linear]:
    """Slopes of y / x, an intercept that takes x's distance from zero into account."""
    response, right = formula.split(" ~ ")
    regressors = (0, *(1 + _COLUMNS.index(name) for name in right.split(" + ")))
    # Of y / sigma = a + b (x - center) / scale, with a and b standard normal.
    size = len(regressors) - 1
    change = np.zeros((size + 1, size + 1))
    change[0, 0] = 1.0
    change[0, 1:] = -_CENTER / _X
    change[1:, 1:] = np.eye(size) / _X
    prior = cw.NormalInverseGamma(np.zeros(size + 1), change @ change.T, 4.0, 2.0 * _Y**2)
    column = 1 + _COLUMNS.index(response)
    return formula, Linear(cw.Gaussian(**options), prior, regressors, (column,))


def _density(prior: Any, **options: Any) -> tuple[Linear, ...]:
    return (Linear(cw.GaussianCovariates("x1 + x2", **options), prior, (0,), (1, 2)),)


_SQUARE = _X**2 * np.array([[1.0, 0.3], [0.3, 0.6]])

MODELS: dict[str, Fitted] = {
    "Dirichlet; covariates: full; response: sigma": Fitted(
        cw.Dirichlet(1.5),
        (_regression("y1 ~ x1"),),
        _density(cw.NormalInverseWishart(_CENTER, 0.7, degrees_of_freedom=8.0, scale=5 * _SQUARE)),
    ),
    "Dirichlet process; covariates: none; response: shared sigma": Fitted(
        cw.DirichletProcess(cw.Gamma(2.0, 1.0)), (_regression("y1 ~ x1 + x2", shared_sigma=True),)
    ),
    "Pitman-Yor; covariates: spherical; response: two": Fitted(
        cw.PitmanYor(0.3, 1.2),
        (_regression("y1 ~ x1"), _regression("y2 ~ x2", shared_sigma=True)),
        _density(
            cw.NormalInverseGamma(_CENTER, 1.3, 4.0, 2.5 * _X**2), covariance_type="spherical"
        ),
    ),
}


def _read(fitted: Fitted, fit: cw.Fit) -> ProductParameters:
    """Thinned draws of the posterior in data units, arrays with a leading axis of draws."""
    found = fit.posterior["posterior"].to_dataset()

    def values(name: str) -> np.ndarray:
        return found[name].values[0, _THIN - 1 :: _THIN]

    weights = values("weights")
    concentration = values("concentration") if "concentration" in found else np.ones(len(weights))
    parts: list[Any] = [Weights(np.log(weights), concentration)]
    for part in fitted.densities:
        shared = values("covariance")[:, :1] if part.shared else values("covariance")
        parts.append(LinearParameters(values("means")[:, :, None, :], shared))
    several = len(fitted.responses) > 1
    for formula, part in fitted.responses:
        prefix = f"{formula.split(' ~ ')[0]}_" if several else ""
        variance = np.square(values(f"{prefix}sigma"))[:, :, None, None]
        variance = variance[:, :1] if part.shared else variance
        parts.append(LinearParameters(values(f"{prefix}coefficients")[..., None], variance))
    return ProductParameters(tuple(parts))


@double_precision
def run(engine: Any, name: str, replications: int, seed: int) -> Ranks:
    """Ranks of the truth among the draws of fits to simulated data."""
    fitted, rng = MODELS[name], np.random.default_rng(seed)
    truths = jax.tree.map(jnp.asarray, fitted.draw(rng, replications))
    values = np.ones((replications, N_ROWS, N_COLUMNS))
    values[:, :, 1:3] = _CENTER + _X * rng.normal(size=(replications, N_ROWS, 2))
    parts, prior, model = fitted.parts, fitted.prior(), fitted.model
    data_keys = jax.random.split(random_key(int(rng.integers(2**32))), replications)
    simulated = simulate(parts, truths, jnp.asarray(values), data_keys)
    found = []
    for i in range(replications):
        frame = pd.DataFrame(simulated[i, :, 1:], columns=list(_COLUMNS))
        fit = model.fit(frame, engine=engine, random_state=int(rng.integers(2**32)))
        truth = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], truths)
        drawn = _read(fitted, fit)
        every = jax.tree.map(lambda a, b: jnp.concatenate([a, b])[None], truth, drawn)
        log_prior = np.asarray(log_priors(prior, every))
        every, own = jax.tree.map(np.asarray, every), simulated[i : i + 1, None]
        ranked = quantities(parts, prior, log_prior, every, own, _POINT)
        if isinstance(prior.parts[0], StickBreakingPosterior):
            # Sticks have an order, which relabelling changes, and their density changes with it.
            del ranked["log joint density"]
        found.append({name: summary(value[0]) for name, value in sorted(ranked.items())})
    return Ranks.collect(jax.tree.map(lambda *parts: np.stack(parts), *found), N_DRAWS)
