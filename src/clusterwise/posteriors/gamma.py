"""Gamma draws that compile quickly: one loop over a whole array of shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray


def sample_log_gamma(key: PRNGKeyArray, shape: Float[Array, "..."]) -> Float[Array, "..."]:
    """Logarithms of gamma(shape, 1) draws, by rejection (Marsaglia and Tsang 2000, TOMS 26).

    Parameters
    ----------
    key
        Random key.
    shape
        Positive shapes; one draw each.
    """
    boost_key, loop_key = jax.random.split(key)
    # Below one, gamma(a) is gamma(a + 1) times uniform^(1 / a).
    raised = jnp.where(shape < 1, shape + 1, shape)
    d = raised - 1 / 3
    c = 1 / jnp.sqrt(9 * d)

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return ~jnp.all(state[2])

    def propose(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        now, log_v, done = state
        now, normal_key, uniform_key = jax.random.split(now, 3)
        x = jax.random.normal(normal_key, shape.shape)
        u = jax.random.uniform(uniform_key, shape.shape)
        root = 1 + c * x
        new = 3 * jnp.log(jnp.where(root > 0, root, 1.0))
        accept = (root > 0) & (jnp.log(u) < 0.5 * jnp.square(x) + d * (1 - jnp.exp(new) + new))
        return now, jnp.where(accept & ~done, new, log_v), done | accept

    start = (loop_key, jnp.zeros(shape.shape), jnp.zeros(shape.shape, bool))
    _, log_v, _ = lax.while_loop(unfinished, propose, start)
    # The uniform draw may be 0 but not 1: take it from the other end.
    boost = jnp.log1p(-jax.random.uniform(boost_key, shape.shape)) / shape
    return jnp.log(d) + log_v + jnp.where(shape < 1, boost, 0.0)
