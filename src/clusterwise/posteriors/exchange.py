"""Two clusters trade places, where weights tell places apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def exchange(log_weights: Float[Array, "k l"], key: PRNGKeyArray) -> Int[Array, " k"] | None:
    """Two clusters that may have traded places, by a Metropolis step (None with one cluster).

    Parameters
    ----------
    log_weights
        Summed log weight of the rows of cluster k, were they in place l.
    key
        Random key.
    """
    k = log_weights.shape[0]
    if k == 1:
        return None
    pair_key, test_key = jax.random.split(key)
    first, shift = jax.random.randint(pair_key, (2,), jnp.array([0, 1]), jnp.array([k, k]))
    second = (first + shift) % k
    gain = log_weights[first, second] + log_weights[second, first]
    gain -= log_weights[first, first] + log_weights[second, second]
    traded = jnp.arange(k).at[first].set(second).at[second].set(first)
    return jnp.where(jnp.log(jax.random.uniform(test_key)) < gain, traded, jnp.arange(k))
