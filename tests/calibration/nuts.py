"""Draws of the no-U-turn sampler as one pure function, of the engine's own programs.

Trajectories have a length of their own, and the chains of a batch take the steps of the longest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from clusterwise.core.rows import RowBlock
from clusterwise.engines import nuts
from clusterwise.engines.step import expectation
from tests.calibration.stories import concentration_is_learned

_ASCENT = 8  # steps of variational inference, from whose result the chain starts
_STRIDE = 0.5
_TARGET_ACCEPT = 0.8


def trajectories(
    *, known: tuple[int, int], learned: tuple[int, int], max_tree_depth: int
) -> Callable[..., Any]:
    """A function that gives every so many draws after a warm-up, as `Sampler.draws`.

    Parameters
    ----------
    known, learned
        Draws of the warm-up, and of which one is kept, by whether the concentration of the weights
        is learned: small ones leave sticks a tail that chains go along slowly.
    max_tree_depth
        A trajectory is doubled at most so many times.
    """

    def draws(block: Any, prior: Any, start: Any, rows: RowBlock, key: Any, n_draws: int) -> Any:
        warmup, thin = learned if concentration_is_learned(prior) else known
        start_key, chain_key = jax.random.split(key)

        def updated(moments: Any) -> Any:
            statistics = expectation(block, moments, rows).statistics
            return block.posterior(statistics, prior, moments)

        def step(_: Any, now: Any) -> Any:
            # Half of the way, for parts whose update may go too far.
            return block.blend(now, updated(now.moments()), _STRIDE)

        posterior = lax.fori_loop(0, _ASCENT, step, updated(start.moments()))
        arguments = {
            "settings": nuts.Settings(warmup, max_tree_depth),
            "target": nuts.Target(block, prior, posterior.coordinates(), prior.has_order),
            "rows": rows,
            "target_accept": jnp.asarray(_TARGET_ACCEPT),
        }
        state = _function_of(nuts._start_program)(
            posterior=posterior, keys=start_key[None], **arguments
        )

        def advance(state: Any, own: Any) -> tuple[Any, Any]:
            state, drawn = _function_of(nuts._advance_program)(
                state=state, keys=own[None], **arguments
            )
            return state, jax.tree.map(lambda leaf: leaf[:, 0], drawn.parameters)

        programs = -(-(warmup + thin * n_draws) // nuts._PROGRAM_DRAWS)
        every = lax.scan(advance, state, jax.random.split(chain_key, programs))[1]
        every = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), every)
        last = warmup + thin * n_draws
        return jax.tree.map(lambda leaf: leaf[warmup + thin - 1 : last : thin], every)

    return draws


def _function_of(program: Any) -> Callable[..., Any]:
    """What a program compiles: programs are not called inside of others."""
    return program.__wrapped__
