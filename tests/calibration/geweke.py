"""Geweke's joint-distribution test (2004, JASA 99): two ways to draw parameters and rows together.

The marginal-conditional simulator draws parameters from the prior. The successive-conditional one
alternates a sweep of the sampler, given rows, with new rows, given the parameters. Where the sweep
is right, both have the same distribution of parameters: the prior.

Many successive-conditional chains run side by side. Each starts from an own draw of prior and
rows, which is where it has to stay, and counts as one batch: averages of different chains are
independent, so that their variance needs no model of the autocorrelation within a chain.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import stats

from clusterwise.core.random import random_key
from clusterwise.core.runtime import Program
from tests.calibration.registry import N_COLUMNS, Combination, Sampler
from tests.calibration.stories import as_rows, moments, simulate_linear

N_ROWS = 7
_MARGINAL = 40  # draws of the prior for each chain


@partial(Program, static_argnames=("parts", "transition", "steps"))
def _successive(
    block: Any,
    prior: Any,
    starts: Any,
    values: Any,
    chain_keys: Any,
    *,
    parts: Any,
    transition: Any,
    steps: int,
) -> Any:
    """Averages of the test functions over the second half of each chain."""

    def one(parameters: Any, values: Any, key: Any) -> Any:
        def cycle(state: Any, i: Any) -> tuple[Any, Any]:
            parameters, values, key, total = state
            key, data_key, sweep_key = jax.random.split(key, 3)
            values = simulate_linear(parts, parameters, values, data_key)
            parameters = transition(block, prior, parameters, as_rows(values), sweep_key)
            found = moments(parts, prior, parameters, values)
            total = jax.tree.map(lambda t, f: t + jnp.where(i < steps, 0.0, f), total, found)
            return (parameters, values, key, total), None

        zero = jax.tree.map(jnp.zeros_like, moments(parts, prior, parameters, values))
        state = (parameters, values, key, zero)
        total = lax.scan(cycle, state, jnp.arange(2 * steps))[0][3]
        return jax.tree.map(lambda t: t / steps, total)

    return jax.vmap(one)(starts, values, chain_keys)


@partial(Program, static_argnames=("parts",))
def _marginal(prior: Any, draws: Any, values: Any, data_keys: Any, *, parts: Any) -> Any:
    def one(parameters: Any, values: Any, key: Any) -> Any:
        values = simulate_linear(parts, parameters, values, key)
        return moments(parts, prior, parameters, values)

    return jax.vmap(one)(draws, values, data_keys)


def run(
    sampler: Sampler, combination: Combination, chains: int, seed: int,
    *, steps: int = 60, n_rows: int = N_ROWS,
) -> dict[str, float]:  # fmt: skip
    """Two-sided p-value of each test function: is its average that of the prior?

    Parameters
    ----------
    sampler, combination
        What is tested.
    chains
        Number of successive-conditional chains.
    seed
        Of all randomness.
    steps
        Cycles of a chain that are averaged, after as many that are not.
    n_rows
        Rows of a data set.
    """
    rng = np.random.default_rng(seed)
    size = _MARGINAL * chains
    values = np.ones((chains + size, n_rows, N_COLUMNS))
    values[:, :, 1:3] = rng.normal(size=(chains + size, n_rows, 2))
    values = jnp.asarray(values)
    own_keys = jax.random.split(random_key(int(rng.integers(2**32))), chains + size)
    block, prior = combination.block, combination.prior()
    starts = combination.draw(rng, chains)
    successive = _successive(
        block, prior, starts, values[:chains], own_keys[:chains],
        parts=combination.parts, transition=sampler.transition, steps=steps,
    )  # fmt: skip
    draws = combination.draw(rng, size)
    marginal = _marginal(prior, draws, values[chains:], own_keys[chains:], parts=combination.parts)
    found = {}
    for name, average in successive.items():
        own, other = np.asarray(average), np.asarray(marginal[name])
        error = np.sqrt(own.var(ddof=1) / own.size + other.var(ddof=1) / other.size)
        found[name] = float(2 * stats.norm.sf(abs(own.mean() - other.mean()) / error))
    return found
