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
from tests.calibration.registry import N_COLUMNS, Combination, Sampler
from tests.calibration.stories import as_rows, quantities, simulate

N_ROWS = 23
N_DRAWS = 31
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
        lags = {name: np.mean(lag) / np.mean(own) for name, (_, lag, own) in summaries.items()}
        return cls(ranks, {name: float(value) for name, value in lags.items()}, n_draws)


def summary(every: Any) -> tuple[Any, Any, Any]:
    """Rank of the first value among the others, their lagged products and their variance."""
    draws = every[1:]
    centred = draws - draws.mean()
    lagged = (centred[1:] * centred[:-1]).mean()
    return (draws < every[0]).sum(), lagged, jnp.square(centred).mean()


@partial(Program, static_argnames=("draws", "n_draws"))
def _replicate(
    block: Any, prior: Any, truths: Any, starts: Any, values: Any, data_keys: Any, *,
    draws: Any, n_draws: int,
) -> Any:  # fmt: skip
    def one(truth: Any, start: Any, values: Any, key: Any) -> Any:
        data_key, chain_key = jax.random.split(key)
        values = simulate(block, truth, values, data_key)
        drawn = draws(block, prior, start, as_rows(values), chain_key, n_draws)
        every = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), truth, drawn)
        found = jax.vmap(lambda p: quantities(block, prior, p, values))(every)
        return {name: summary(value) for name, value in found.items()}

    return jax.vmap(one)(truths, starts, values, data_keys)


def run(
    sampler: Sampler, combination: Combination, replications: int, seed: int,
    *, n_draws: int = N_DRAWS, n_rows: int = N_ROWS,
) -> Ranks:  # fmt: skip
    """Ranks of the truth among draws that start from another draw of the prior.

    Batches of one size share a program, however many replications there are.
    """
    rng = np.random.default_rng(seed)
    block, prior = combination.block, combination.prior()
    found = []
    for first in range(0, replications, _BATCH):
        size = min(_BATCH, replications - first)
        truths, starts = combination.draw(rng, size), combination.draw(rng, size)
        values = np.ones((size, n_rows, N_COLUMNS))
        values[:, :, 1:3] = rng.normal(size=(size, n_rows, 2))
        own = jax.random.split(random_key(int(rng.integers(2**32))), size)
        part = _replicate(
            block, prior, truths, starts, jnp.asarray(values), own,
            draws=sampler.draws, n_draws=n_draws,
        )  # fmt: skip
        found.append(jax.tree.map(np.asarray, part))
    return Ranks.collect(jax.tree.map(lambda *parts: np.concatenate(parts), *found), n_draws)
