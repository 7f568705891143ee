"""Simulation-based calibration: many small data sets, all of them in one program.

Parameters are drawn from the prior, rows from the parameters, and the sampler runs on the rows; the
rank of the true value among the draws is then uniform (Talts et al. 2018). Quantities that depend
on the data too are ranked as well, since parameters alone can miss a sampler that ignores the data
(Modrak et al. 2023).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clusterwise.core.random import random_key
from clusterwise.core.runtime import Program
from tests.calibration.registry import Combination, Sampler
from tests.calibration.stories import as_rows, quantities, simulate

_BATCH = 200


class Ranks(NamedTuple):
    """Ranks (replications,) of each quantity, out of `0..n_draws`, and autocorrelations."""

    ranks: dict[str, np.ndarray]
    autocorrelation: dict[str, float]
    n_draws: int

    @classmethod
    def collect(cls, summaries: dict[str, Any], n_draws: int) -> Ranks:
        """From summaries of all replications."""
        ranks = {name: np.asarray(rank) for name, (rank, _, _) in summaries.items()}
        lags = {
            name: np.nanmean(lag) / np.nanmean(own) for name, (_, lag, own) in summaries.items()
        }
        return cls(ranks, {name: float(value) for name, value in lags.items()}, n_draws)


def summary(every: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank of the first value (..., draws) among the others, their lagged products, variance."""
    draws = every[..., 1:]
    centred = draws - draws.mean(axis=-1, keepdims=True)
    lagged = (centred[..., 1:] * centred[..., :-1]).mean(axis=-1)
    # Probabilities may be zero or one up to rounding, in the truth and in draws alike.
    tied = (draws == every[..., :1]).sum(axis=-1)
    below = (draws < every[..., :1]).sum(axis=-1) + np.random.default_rng(0).integers(tied + 1)
    return below, lagged, np.square(centred).mean(axis=-1)


@partial(Program, static_argnames=("draws", "n_draws"))
def _draw(
    block: Any, prior: Any, starts: Any, values: Any, chain_keys: Any, *, draws: Any, n_draws: int
) -> Any:
    def one(start: Any, values: Any, key: Any) -> Any:
        return draws(block, prior, start, as_rows(values), key, n_draws)

    return jax.vmap(one)(starts, values, chain_keys)


@Program
def log_priors(prior: Any, parameters: Any) -> Any:
    """Log density of parameters, arrays with two leading axes."""
    return jax.vmap(jax.vmap(prior.log_prob))(parameters)


def run(
    sampler: Sampler, combination: Combination, replications: int, seed: int,
    *, n_draws: int | None = None, n_rows: int | None = None,
) -> Ranks:  # fmt: skip
    """Ranks of the truth among draws, which start where the combination says.

    Batches of one size share a program, however many replications there are.
    """
    rng = np.random.default_rng(seed)
    n_rows, n_draws = n_rows or combination.n_rows, n_draws or combination.n_draws
    block, prior, parts = combination.block, combination.prior(), combination.parts
    found = []
    for first in range(0, replications, _BATCH):
        size = min(_BATCH, replications - first)
        truths, starts = combination.draw(rng, size), combination.draw(rng, size)
        starts = truths if combination.from_truth else starts
        values = np.ones((size, n_rows, combination.n_columns))
        values[:, :, 1:3] = rng.normal(size=(size, n_rows, 2))
        own = jax.random.split(random_key(int(rng.integers(2**32))), size)
        data_keys, chain_keys = jnp.moveaxis(jax.vmap(jax.random.split)(own), 1, 0)
        values = simulate(parts, truths, jnp.asarray(values), data_keys)
        drawn = _draw(
            block, prior, starts, jnp.asarray(values), chain_keys,
            draws=sampler.draws, n_draws=n_draws,
        )  # fmt: skip
        every = jax.tree.map(lambda a, b: jnp.concatenate([a[:, None], b], 1), truths, drawn)
        log_prior = np.asarray(log_priors(prior, every))
        every = jax.tree.map(np.asarray, every)
        ranked = quantities(parts, prior, log_prior, every, values[:, None], combination.point)
        found.append({name: summary(value) for name, value in sorted(ranked.items())})
    return Ranks.collect(jax.tree.map(lambda *parts: np.concatenate(parts), *found), n_draws)
