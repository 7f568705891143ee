"""No-U-turn sampling of the parameters, the clusters summed out, by NumPyro.

Hoffman and Gelman (2014), JMLR 15, with the multinomial trajectories of Betancourt (2017). Chains
move in coordinates in which the variational posterior is close to standard normal, so that steps
have the right size and direction before anything is adapted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

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
from clusterwise.core.runtime import Program
from clusterwise.engines.ascent import Progress
from clusterwise.engines.chains import Draws, Sampler, run_chains
from clusterwise.engines.checkpoint import Checkpoint
from clusterwise.engines.engine import (
    _N_INIT,
    VI,
    AbstractEngine,
    _check_at_least,
    _check_narrow,
    _key,
    _mean,
    _moments,
    _outcome,
    _variational,
)
from clusterwise.engines.marginal import marginal_log_density
from clusterwise.engines.problem import Outcome, Problem
from clusterwise.engines.relabelling import relabel_to_pivot
from clusterwise.engines.search import evaluate
from clusterwise.engines.step import expectation_program
from clusterwise.sources.source import Source

_PROGRAM_DRAWS = 50
_DEEPEST = 15
_MOST_BYTES = 2**32


class Target(eqx.Module):
    """Log density of all parameters' coordinates given the rows."""

    block: AbstractBlock
    prior: Any
    coordinates: AbstractCoordinates

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


class _Transition(NamedTuple):
    parameters: Any
    log_density: Float[Array, ""]
    stats: dict[str, Array]


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


# Compiled in the quick way: the step is as fast, and takes a quarter of the memory to compile.
@partial(Program, static_argnames=("settings",))
def _advance_program(
    settings: Settings,
    target: Target,
    rows: RowBlock,
    target_accept: Float[Array, ""],
    state: Any,
    keys: PRNGKeyArray,
) -> tuple[Any, _Transition]:
    """Some transitions of one chain."""
    move_key, adapt_key = jax.random.split(keys[0])
    start, step = _kernel(settings, target, rows, target_accept)
    # Sets the kernel up as it was at the start; the state that it gives is not used.
    start(state.z, move_key)

    def transition(now: Any, _: None) -> tuple[Any, _Transition]:
        after = step(now)
        parameters, log_det = target.coordinates.constrain(after.z)
        log_prob = -after.potential_energy
        stats = {
            "lp": log_prob,
            "energy": after.energy,
            "acceptance_rate": after.accept_prob,
            "step_size": now.adapt_state.step_size,
            "n_steps": after.num_steps,
            "diverging": after.diverging,
        }
        rest = target.prior.unnormalised_log_prob(parameters) + log_det
        return after, _Transition(parameters, log_prob - rest, stats)

    adapting = state.adapt_state._replace(rng_key=adapt_key)
    ready = state._replace(rng_key=move_key, adapt_state=adapting)
    after, drawn = lax.scan(transition, ready, None, length=_PROGRAM_DRAWS)
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
    *,
    num_warmup: int,
    num_samples: int,
    num_chains: int,
    target_accept: float,
    max_tree_depth: int,
    key: PRNGKeyArray,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> Draws:
    """Sample from draws of a starting posterior and relabel against a pivot's moments.

    Parameters
    ----------
    block, prior, source
        The model over the rows. Of the prior only `unnormalised_log_prob` is used.
    start
        A posterior, whose coordinates the chains move in and whose draws they start from.
    pivot
        Moments whose components the draws are relabelled to.
    num_warmup, num_samples, num_chains, target_accept, max_tree_depth
        As for `NUTS`.
    key
        Random key.
    progress
        Called after every block of draws.
    checkpoint
        Where the state is kept for a run that is cut off.
    """
    rows = all_rows(source)
    target = Target(block, prior, _coordinates_program(start))
    settings = Settings(num_warmup, max_tree_depth)
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

    drawn = run_chains(
        Sampler(begin, advance, _PROGRAM_DRAWS, 1, True),
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        key=key,
        progress=progress,
        checkpoint=checkpoint,
    )
    totals = source.sum(partial(expectation_program, block, pivot))
    parameters, permutation = relabel_to_pivot(
        block, totals.statistics, drawn.parameters, prior.label_groups
    )
    steps = drawn.stats["n_steps"]
    depth = np.ceil(np.log2(steps + 1)).astype(int)
    stats = drawn.stats | {"tree_depth": depth, "reached_max_treedepth": depth >= max_tree_depth}
    return Draws(parameters, drawn.log_density, permutation, stats)


@dataclass(frozen=True)
class NUTS(AbstractEngine):
    """No-U-turn sampling, several chains at once, started from variational inference.

    Clusters are summed out, so that real `sample_weight` and any prior can be taken. Every row is
    visited some ten times for a draw: for large data `Gibbs` is quicker where it applies.

    Parameters
    ----------
    num_warmup
        Draws of each chain in which it adapts, and which are thrown away.
    num_samples
        Draws of each chain that are kept.
    num_chains
        Number of chains.
    target_accept
        Average acceptance that the step size is adapted to, in (0, 1); higher for smaller steps,
        where draws diverge.
    max_tree_depth
        A trajectory is doubled at most so many times.
    n_init
        Number of starts of the variational fit.

    References
    ----------
    Hoffman and Gelman (2014), JMLR 15; Betancourt (2017), arXiv:1701.02434.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.NUTS(target_accept=0.9).num_chains
    4
    """

    num_warmup: int = 500
    num_samples: int = 1000
    num_chains: int = 4
    target_accept: float = 0.8
    max_tree_depth: int = 10
    n_init: int = _N_INIT
    name: ClassVar[str] = "nuts"
    flat_prior: ClassVar[bool] = False
    resumable: ClassVar[bool] = True
    any_prior: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_at_least(self, num_warmup=1, num_samples=1, num_chains=1, max_tree_depth=1, n_init=1)
        accept = self.target_accept
        if not isinstance(accept, (int, float, np.number)) or not 0 < accept < 1:
            raise OptionError(f"NUTS(target_accept={accept!r}) must lie between 0 and 1.")
        if self.max_tree_depth > _DEEPEST:
            raise OptionError(
                f"NUTS(max_tree_depth={self.max_tree_depth!r}) must be at most {_DEEPEST}."
            )

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        _check_narrow(self.name, problem)
        found = _variational(VI(n_init=self.n_init), problem, rng, progress)
        posterior = found.best.posterior
        draws = run_nuts(
            problem.block,
            problem.prior if problem.free_prior is None else problem.free_prior,
            problem.source,
            posterior,
            _moments(posterior),
            num_warmup=self.num_warmup,
            num_samples=self.num_samples,
            num_chains=self.num_chains,
            target_accept=self.target_accept,
            max_tree_depth=self.max_tree_depth,
            key=_key(rng),
            progress=progress,
            checkpoint=problem.checkpoint,
        )
        mean = _mean(jax.tree.map(jnp.asarray, draws.parameters))
        moments = _moments(mean)
        log_likelihood, entropy = evaluate(problem, moments)
        return _outcome(problem, found, found.best, variational=True)._replace(
            parameters=mean,
            moments=moments,
            converged=True,
            n_iter=self.num_warmup + self.num_samples,
            history=draws.log_density.mean(axis=0),
            draws=draws,
            draws_from_posterior=False,
            log_likelihood=log_likelihood,
            entropy=entropy,
        )
