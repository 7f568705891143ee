"""A random number generator of few operations, so that programs compile in a fraction of the time.

Bits are a hash of key and position: the finaliser of SplitMix64 (Steele, Lea and Flood 2014,
OOPSLA), applied twice. JAX's own generator, twenty rounds at each of the many places where a sweep
draws, takes most of the compiler's time.
"""

from __future__ import annotations

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import define_prng_impl
from jaxtyping import PRNGKeyArray

from clusterwise.core.errors import OptionError

RandomState = int | np.random.Generator | np.random.RandomState | None

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: Any) -> Any:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _as_number(key: Any) -> Any:
    high, low = key[0].astype(jnp.uint64), key[1].astype(jnp.uint64)
    return (high << np.uint64(32)) | low


def _as_key(number: Any) -> Any:
    return jnp.stack([number >> np.uint64(32), number], axis=-1).astype(jnp.uint32)


def _hash(key: Any, position: Any) -> Any:
    return _mix(_mix(_as_number(key) + _GOLDEN) + position.astype(jnp.uint64) * _GOLDEN)


def _seed(seed: Any) -> Any:
    return _as_key(_mix(jnp.asarray(seed).astype(jnp.uint64)))


def _split(key: Any, shape: tuple[int, ...]) -> Any:
    # Keys are hashed from positions that bits do not use.
    position = jnp.arange(1, prod(shape) + 1, dtype=jnp.uint64) << np.uint64(32)
    # The barrier keeps the compiler from repeating the hash wherever a key is used.
    return lax.optimization_barrier(_as_key(_hash(key, position)).reshape(*shape, 2))


def _fold_in(key: Any, data: Any) -> Any:
    position = (data.astype(jnp.uint64) << np.uint64(32)) + np.uint64(7)
    return lax.optimization_barrier(_as_key(_mix(_hash(key, position))))


def _random_bits(key: Any, width: int, shape: tuple[int, ...]) -> Any:
    bits = _hash(key, jnp.arange(1, prod(shape) + 1, dtype=jnp.uint64))
    return (bits >> np.uint64(64 - width)).astype(f"uint{width}").reshape(shape)


_IMPLEMENTATION = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in,
    name="splitmix64", tag="mix",
)  # fmt: skip


def random_key(seed: int) -> PRNGKeyArray:
    """A key for the functions of `jax.random`, in double precision.

    Parameters
    ----------
    seed
        Not negative.
    """
    return jax.random.key(seed, impl=_IMPLEMENTATION)


def as_generator(random_state: RandomState) -> np.random.Generator:
    """A generator from a seed, a generator, or scikit-learn's kind of random state."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    if random_state is None or (isinstance(random_state, (int, np.integer)) and random_state >= 0):
        return np.random.default_rng(random_state)
    raise OptionError(
        f"random_state={random_state!r} must be None, a non-negative whole number or a NumPy "
        "generator."
    )
