"""What is calibrated: samplers, and models made of weights, covariates and responses.

A new sampler joins by one entry of `SAMPLERS`, a new kind of weights, covariates or response by one
entry of `WEIGHTS`, `COVARIATES` or `RESPONSES`, a new family by one in `families.py`. Priors are
written as a user writes them; truths are drawn from what their documentation says, by NumPy and
SciPy. Rows have five columns or more: the constant, two regressors, and the responses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import special

import clusterwise as cw
from clusterwise.core.product import Product
from clusterwise.core.product_posterior import ProductParameters, ProductPosterior
from clusterwise.core.rows import RowBlock
from clusterwise.engines.gibbs import sweep
from clusterwise.posteriors.dirichlet import Weights
from clusterwise.posteriors.gates import SoftmaxGates, StickGates
from clusterwise.weights.specification import GateDesign
from tests.calibration.families import FAMILY_RESPONSES
from tests.calibration.nuts import trajectories
from tests.calibration.parts import AbstractPart, Linear
from tests.calibration.stories import GATING

N_CLUSTERS = 3
N_COLUMNS = 5
N_ROWS, N_FAMILY_ROWS = 23, 60
N_DRAWS, N_FAMILY_DRAWS = 31, 15


# Samplers


def one_sweep(block: Any, prior: Any, parameters: Any, rows: RowBlock, key: Any) -> Any:
    """One sweep of the Gibbs sampler: labels of all rows given parameters, then parameters."""
    return sweep(block, prior, parameters, rows, key)[0]


@dataclass(frozen=True)
class Sampler:
    """A sampler as pure functions, which run for many data sets at once under `jax.vmap`.

    Parameters
    ----------
    draws
        `(block, prior, start, rows, key, n_draws)` gives thinned draws after a warm-up, arrays
        with a leading axis.
    about
        What it is, for who reads the results.
    transition
        `(block, prior, parameters, rows, key)` gives the parameters after one step of a kernel
        that leaves the posterior as it is; None for a sampler that adapts.
    """

    draws: Callable[..., Any]
    about: str
    transition: Callable[..., Any] | None = None


def chain_of(
    transition: Callable[..., Any], *, warmup: int, thin: int, tested: int | None = None
) -> Sampler:
    """A sampler that applies one transition after the other.

    Parameters
    ----------
    transition
        One of them.
    warmup, thin
        Transitions before the first draw, and from one draw to the next.
    tested
        From one draw to the next where draws are tested, and may be left out.
    """

    def draws(block: Any, prior: Any, start: Any, rows: RowBlock, key: Any, n_draws: int) -> Any:
        step = thin if block.exact else tested or thin

        def advance(_: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
            parameters, now = state
            now, own = jax.random.split(now)
            return transition(block, prior, parameters, rows, own), now

        def kept(state: tuple[Any, Any], _: Any) -> tuple[tuple[Any, Any], Any]:
            state = lax.fori_loop(0, step, advance, state)
            return state, state[0]

        # One loop: a second one for the warm-up would be compiled again.
        skipped = -(-warmup // step)
        every = lax.scan(kept, (start, key), None, length=skipped + n_draws)[1]
        return jax.tree.map(lambda leaf: leaf[skipped:], every)

    about = f"Every {thin}th sweep after {warmup}, from a draw of the prior"
    about += f"; every {tested}th where draws are tested." if tested else "."
    return Sampler(draws, about, transition)


SAMPLERS: dict[str, Sampler] = {
    "gibbs": chain_of(one_sweep, warmup=60, thin=15, tested=30),
    "nuts": Sampler(
        trajectories(known=(57, 3), learned=(130, 20), max_tree_depth=4),
        "Every third trajectory after 57 that adapt, of at most 15 steps, from and in the "
        "coordinates of a short variational fit that starts at a draw of the prior; where the "
        "concentration is learned every 20th after 130, since chains go slowly along the tail "
        "that sticks have where it is small.",
    ),
}


# Priors, as a user writes them

_CONCENTRATION = cw.Gamma(2.0, 1.0)
_SLOPES = np.array([[1.2, 0.3, 0.1], [0.3, 0.9, -0.2], [0.1, -0.2, 0.8]])
_SQUARE = np.array([[1.0, 0.3], [0.3, 0.6]])

WEIGHTS: dict[str, Any] = {
    "Dirichlet": cw.Dirichlet(1.5),
    "Dirichlet process": cw.DirichletProcess(_CONCENTRATION),
    "Dirichlet process, known": cw.DirichletProcess(1.7),
    "Pitman-Yor": cw.PitmanYor(0.3, _CONCENTRATION),
    "Pitman-Yor, known": cw.PitmanYor(0.3, 1.2),
    # Unequal, so that it matters which cluster has which.
    "known weights": cw.KnownWeights((0.5, 0.3, 0.2)),
}

# Clusters of families have rows enough: of very few, a dispersion is left slowly.
EVEN: dict[str, Any] = {"even Dirichlet": cw.Dirichlet(8.0)}

# Weights that depend on the first regressor, which is then given: not with covariates.
GATED: dict[str, Any] = {
    "gated": cw.Gated("x1", scale=1.5),
    "logit stick-breaking": cw.LogitStickBreaking("x1", 1.7),
}
_GATE_DESIGN = GateDesign(np.eye(2), np.array([1.0, 0.0]))


def _density(prior: Any, **options: Any) -> tuple[Linear, ...]:
    return (Linear(cw.GaussianCovariates("x1 + x2", **options), prior, (0,), (1, 2)),)


def _regression(
    regressors: tuple[int, ...], response: int, prior: Any = None, **options: Any
) -> Linear:
    p = len(regressors)
    conjugate = cw.NormalInverseGamma(0.2 * np.arange(p), _SLOPES[:p, :p], 4.0, 2.0)
    return Linear(cw.Gaussian(**options), prior or conjugate, regressors, (response,))


_WISHART = cw.NormalInverseWishart([0.3, -0.2], 0.7, degrees_of_freedom=8.0, scale=5 * _SQUARE)
_GAMMAS = cw.NormalInverseGamma([0.3, -0.2], 1.3, [4.0, 5.0], [3.0, 2.0])
_ONE_GAMMA = cw.NormalInverseGamma([0.3, -0.2], 1.3, 4.0, 2.5)

COVARIATES: dict[str, tuple[Linear, ...]] = {
    "none": (),
    "full": _density(_WISHART),
    "diagonal": _density(_GAMMAS, covariance_type="diag"),
    "spherical": _density(_ONE_GAMMA, covariance_type="spherical"),
    "tied": _density(_WISHART, covariance_type="tied"),
    "known": _density(cw.Normal([0.3, -0.2], 1.5 * _SQUARE), covariance=_SQUARE),
}
RESPONSES: dict[str, tuple[Linear, ...]] = {
    "sigma": (_regression((0, 1, 2), 3),),
    "shared sigma": (_regression((0, 1), 3, shared_sigma=True),),
    "known sigma": (_regression((0, 2), 3, cw.Normal([0.1, -0.3], _SLOPES[:2, :2]), sigma=0.8),),
    "two": (_regression((0, 1, 2), 3), _regression((0, 2), 4, shared_sigma=True)),
    "none": (),
}


# Models


@dataclass(frozen=True)
class Combination:
    """One model."""

    weights: str
    covariates: str
    response: str

    @property
    def name(self) -> str:
        return f"{self.weights}; covariates: {self.covariates}; response: {self.response}"

    @property
    def parts(self) -> tuple[AbstractPart, ...]:
        return (*COVARIATES[self.covariates], *(RESPONSES | FAMILY_RESPONSES)[self.response])

    @property
    def n_columns(self) -> int:
        return max([N_COLUMNS, *(p.n_columns for p in FAMILY_RESPONSES.get(self.response, ()))])

    @property
    def point(self) -> np.ndarray:
        """A row to predict: a level, or a count out of some trials, where it has to be one."""
        found = [1.0, 0.5, -0.5, 0.3, 0.2]
        for part in FAMILY_RESPONSES.get(self.response, ()):
            found[3:] = part.case.observed(np.ones(1))[:, 0]
        return np.array(found)

    @property
    def from_truth(self) -> bool:
        """Whether chains start from the truth: tested draws may not leave a far start at all."""
        return self.response in FAMILY_RESPONSES

    @property
    def n_rows(self) -> int:
        return N_FAMILY_ROWS if self.response in FAMILY_RESPONSES else N_ROWS

    @property
    def n_draws(self) -> int:
        """Draws that a truth is ranked among: few where chains go slowly."""
        return N_DRAWS if self.block.exact else N_FAMILY_DRAWS

    @property
    def block(self) -> Product:
        parts = tuple(part.block for part in self.parts)
        return Product((self._specification.block(GATING), *parts), self.n_columns)

    @property
    def _specification(self) -> Any:
        return (WEIGHTS | EVEN | GATED)[self.weights]

    def prior(self, k: int = N_CLUSTERS) -> ProductPosterior:
        weights = self._specification.prior(k, flat=False, design=_GATE_DESIGN)
        parts = (weights, *(part.build(k) for part in self.parts))
        return jax.tree.map(jnp.asarray, ProductPosterior(parts))

    def draw(self, rng: np.random.Generator, size: int, k: int = N_CLUSTERS) -> ProductParameters:
        """`size` draws of the prior, arrays with a leading axis."""
        weights = draw_weights(self._specification, rng, size, k)
        drawn = ProductParameters((weights, *(p.draw(rng, size, k) for p in self.parts)))
        return jax.tree.map(jnp.asarray, drawn)


def draw_weights(specification: Any, rng: np.random.Generator, size: int, k: int) -> Any:
    """`size` draws of weights and concentration, or of gates, arrays with a leading axis."""
    if isinstance(specification, cw.KnownWeights):
        log_weights = np.log(np.asarray(specification.weights))
        return Weights(np.broadcast_to(log_weights, (size, k)), np.zeros(size))
    unknown = np.full((size, k), np.nan)
    if isinstance(specification, cw.Gated):
        # Differences of two have the standard deviation `scale`.
        gates = rng.normal(scale=specification.scale / np.sqrt(2), size=(size, k, 2))
        return SoftmaxGates(gates - gates.mean(axis=1, keepdims=True), unknown)
    if isinstance(specification, cw.LogitStickBreaking):
        own = special.polygamma(1, [1.0, specification.concentration]).sum()
        middle = special.digamma(1.0) - special.digamma(specification.concentration)
        gates = rng.normal(scale=np.sqrt(own), size=(size, k - 1, 2))
        gates[..., 0] += middle
        path = np.eye(k, k - 1) - np.tri(k, k - 1, -1)
        return StickGates(np.broadcast_to(path, (size, k, k - 1)), gates, unknown)
    concentration = specification.concentration
    if isinstance(specification, cw.Dirichlet):
        weights = rng.dirichlet(np.full(k, concentration), size=size)
        return Weights(np.log(weights), np.full(size, k * concentration))
    if isinstance(concentration, cw.Gamma):
        concentration = rng.gamma(concentration.shape, 1 / concentration.rate, size=size)
    concentration = np.broadcast_to(concentration, (size,))
    discount = getattr(specification, "discount", 0.0)
    later = concentration[:, None] + discount * np.arange(1, k)
    # Beta sticks from two gammas as logarithms: a stick may be one up to rounding.
    own = np.log(rng.gamma(1 - discount, size=later.shape))
    rest = np.log(rng.gamma(later + 1)) + np.log1p(-rng.random(later.shape)) / later
    total = np.logaddexp(own, rest)
    left = np.cumsum(np.column_stack([np.zeros(size), rest - total]), axis=1)
    log_weights = left + np.column_stack([own - total, np.zeros(size)])
    return Weights(log_weights, concentration)


# Families and gates, with the rest as simple as it may be.
EXTENDED = [
    *(Combination(even, "none", response) for even in EVEN for response in FAMILY_RESPONSES),
    *(Combination(weights, "none", "sigma") for weights in GATED),
]
COMBINATIONS = [
    Combination(weights, covariates, response)
    for covariates in COVARIATES
    for response in RESPONSES
    for weights in WEIGHTS
    if (covariates, response) != ("none", "none")
]


def rotation(offset: int = 0) -> list[Combination]:
    """Every pair of weights and covariates, the responses in turn with the covariates.

    Processes that differ in numbers only share a program.
    """
    found = []
    for weights in WEIGHTS:
        for j, covariates in enumerate(COVARIATES):
            names = [r for r in RESPONSES if (covariates, r) != ("none", "none")]
            found.append(Combination(weights, covariates, names[(j + offset) % len(names)]))
    return found
