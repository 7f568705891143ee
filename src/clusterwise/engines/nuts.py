"""No-U-turn sampling of the parameters, the clusters summed out, by NumPyro.

Hoffman and Gelman (2014), JMLR 15, with the multinomial trajectories of Betancourt (2017). Chains
move in coordinates in which the variational posterior is close to standard normal, so that steps
have the right size and direction before anything is adapted. After every trajectory two clusters
may trade places: where weights have an order, as sticks do, or differ by what is known of them,
each order is a mode of its own, which no trajectory leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from clusterwise.core.arrays import constant
from clusterwise.core.block import AbstractBlock, AbstractCoordinates
from clusterwise.core.errors import OptionError
from clusterwise.core.rows import BLOCK_CHUNKS, RowBlock
from clusterwise.core.runtime import Effort, Program
from clusterwise.engines.chains import Chains, Draw, Draws, Sampler, draw_relabelled
from clusterwise.engines.marginal import marginal_log_density
from clusterwise.sources.source import Source

_PROGRAM_DRAWS = 50
_PROGRAM_ROWS = 2**17
DEEPEST = 15
_MOST_BYTES = 2**32


class Target(eqx.Module):
    """Log density of all parameters' coordinates given the rows.

    `trades` says whether clusters trade places: with weights that know no order it changes nothing.
    """

    block: AbstractBlock
    prior: Any
    coordinates: AbstractCoordinates
    trades: bool = eqx.field(static=True, default=False)

    def log_prob(self, z: Float[Array, " size"], rows: RowBlock) -> Float[Array, ""]:
        """Up to a constant."""
        parameters, log_det = self.coordinates.constrain(z)
        likelihood = marginal_log_density(self.block, parameters.moments(), rows)
        return likelihood + self.prior.unnormalised_log_prob(parameters) + log_det


@dataclass(frozen=True)
class Settings:
    """What of the sampler's settings is part of the program."""

    num_warmup: int
    max_tree_depth: int
    draws: int = _PROGRAM_DRAWS
    """That one call of the program makes."""


def program_draws(rows: RowBlock) -> int:
    """Draws of one call of the program: few where there are many rows.

    While two programs run side by side, XLA's runtime for CPUs holds on to some memory for every
    step of theirs (half a megabyte at 100,000 rows and 20 components) until they end. A run that
    is cut off also loses no more than one call.
    """
    chunks, _, size = rows.packed.shape
    return max(1, min(_PROGRAM_DRAWS, _PROGRAM_ROWS // (chunks * size)))


def _kernel(
    settings: Settings, target: Target, rows: RowBlock, target_accept: Any
) -> tuple[Callable[[Array, PRNGKeyArray], Any], Callable[[Any], Any]]:
    """NumPyro's start and step for these rows.

    The mass matrix is diagonal: under the variational posterior the coordinates are uncorrelated
    already, and a dense one, estimated from few draws, slows the chains (twice the effective
    draws without it on the first thread's model).
    """
    from numpyro.infer.hmc import hmc

    begin, step = hmc(lambda z: -target.log_prob(z, rows), algo="NUTS")

    def start(z: Array, key: PRNGKeyArray) -> Any:
        return begin(
            z,
            settings.num_warmup,
            target_accept_prob=target_accept,
            max_tree_depth=settings.max_tree_depth,
            trajectory_length=cast(float, None),
            rng_key=key,
        )

    return start, step


def _traded(target: Target, rows: RowBlock, state: Any, key: PRNGKeyArray) -> Any:
    """The state after a Metropolis test of two clusters' parameters traded, but for their weights.

    Priors of all parts but the weights are the same for every cluster, and a trade keeps volume.
    """
    pair_key, test_key = jax.random.split(key)
    parameters, log_det = target.coordinates.constrain(state.z)
    k = parameters.parts[0].log_weights.shape[0]
    first, shift = jax.random.randint(pair_key, (2,), jnp.array([0, 1]), jnp.array([k, k]))
    second = (first + shift) % k
    order = jnp.arange(k).at[first].set(second).at[second].set(first)
    z = target.coordinates.unconstrain(target.prior.reordered(parameters, order))
    _, new_log_det = target.coordinates.constrain(z)
    energy, gradient = jax.value_and_grad(lambda at: -target.log_prob(at, rows))(z)
    log_ratio = (state.potential_energy + log_det) - (energy + new_log_det)
    accepted = jnp.log(jax.random.uniform(test_key)) < log_ratio
    return state._replace(
        z=jnp.where(accepted, z, state.z),
        z_grad=jnp.where(accepted, gradient, state.z_grad),
        potential_energy=jnp.where(accepted, energy, state.potential_energy),
    )


def _without_keys(state: Any) -> Any:
    return state._replace(rng_key=None, adapt_state=state.adapt_state._replace(rng_key=None))


@partial(Program, static_argnames=("settings",))
def _start_program(
    settings: Settings,
    target: Target,
    rows: RowBlock,
    target_accept: Float[Array, ""],
    posterior: Any,
    keys: PRNGKeyArray,
) -> Any:
    """The state of one chain, at a draw of the variational posterior."""
    point_key, key = jax.random.split(keys[0])
    z = target.coordinates.unconstrain(posterior.sample(point_key))
    start, _ = _kernel(settings, target, rows, target_accept)
    return _without_keys(start(z, key))


# Another effort makes no faster step, and takes four times the memory to compile.
@partial(Program, static_argnames=("settings",), effort=Effort.SOME)
def _advance_program(
    settings: Settings,
    target: Target,
    rows: RowBlock,
    target_accept: Float[Array, ""],
    state: Any,
    keys: PRNGKeyArray,
) -> tuple[Any, Draw]:
    """Some transitions of one chain."""
    move_key, adapt_key = jax.random.split(keys[0])
    trade_key = jax.random.fold_in(keys[0], 1)
    start, step = _kernel(settings, target, rows, target_accept)
    # Sets the kernel up as it was at the start; the state that it gives is not used.
    start(state.z, move_key)

    def transition(now: Any, number: Array) -> tuple[Any, Draw]:
        after = step(now)
        if target.trades:
            after = _traded(target, rows, after, jax.random.fold_in(trade_key, number))
        parameters, log_det = target.coordinates.constrain(after.z)
        log_prob = -after.potential_energy
        depth = jnp.ceil(jnp.log2(after.num_steps + 1)).astype(int)
        stats = {
            "lp": log_prob,
            "energy": after.energy,
            "acceptance_rate": after.accept_prob,
            "step_size": now.adapt_state.step_size,
            "n_steps": after.num_steps,
            "diverging": after.diverging,
            "tree_depth": depth,
            "reached_max_treedepth": depth >= settings.max_tree_depth,
        }
        rest = target.prior.unnormalised_log_prob(parameters) + log_det
        return after, Draw(parameters, log_prob - rest, stats)

    adapting = state.adapt_state._replace(rng_key=adapt_key)
    ready = state._replace(rng_key=move_key, adapt_state=adapting)
    after, drawn = lax.scan(transition, ready, jnp.arange(settings.draws))
    return _without_keys(after), jax.tree.map(lambda leaf: leaf[:, None], drawn)


@Program
def _coordinates_program(posterior: Any) -> AbstractCoordinates:
    return posterior.coordinates()


def all_rows(source: Source) -> RowBlock:
    """All rows of a source as one block in memory."""
    if source.n_blocks == 1:
        return source.block(0)
    first = source.block(0).packed
    if first.nbytes * source.n_blocks > _MOST_BYTES:
        raise OptionError(
            f"engine='nuts' goes over all rows for every step and needs them in memory, and "
            f"{source.n_rows} rows of {first.shape[1]} columns take more than "
            f"{_MOST_BYTES >> 30} GiB; use engine='gibbs', or engine='vi' or 'svi'."
        )
    blocks = [source.block(i) for i in range(source.n_blocks)]
    parts = [np.asarray(rows.packed[: int(rows.used)]) for rows in blocks]
    # To a multiple of a block, so that few programs are compiled.
    missing = -sum(map(len, parts)) % BLOCK_CHUNKS
    parts.append(np.zeros((missing, *first.shape[1:])))
    return jax.tree.map(jnp.asarray, RowBlock.from_packed(np.concatenate(parts)))


def run_nuts(
    block: AbstractBlock,
    prior: Any,
    source: Source,
    start: Any,
    pivot: Any,
    chains: Chains,
    *,
    target_accept: float,
    max_tree_depth: int,
) -> Draws:
    """Sample from draws of a starting posterior, in its coordinates, relabelled to a pivot.

    Of the prior only `unnormalised_log_prob`, `label_groups` and `has_order` are used.
    """
    rows = all_rows(source)
    target = Target(block, prior, _coordinates_program(start), prior.has_order)
    settings = Settings(chains.num_warmup, max_tree_depth, program_draws(rows))
    arguments = {
        "settings": settings,
        "target": target,
        "rows": rows,
        "target_accept": constant(float(target_accept)),
    }

    def begin(keys: PRNGKeyArray) -> Any:
        state = _start_program(posterior=start, keys=keys, **arguments)
        if not np.isfinite(state.potential_energy):
            raise OptionError(
                "The density of the parameters is not finite where a chain starts, at a draw of "
                "the variational posterior: does a prior exclude what the data ask for?"
            )
        return state

    def advance(state: Any, keys: PRNGKeyArray) -> tuple[Any, PyTree]:
        return _advance_program(state=state, keys=keys, **arguments)

    sampler = Sampler(begin, advance, settings.draws, 1, True)
    return draw_relabelled(sampler, chains, block, prior, source, pivot)
