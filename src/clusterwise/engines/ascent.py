"""Coordinate ascent: one loop for expectation-maximisation and variational inference.

The two differ in what the rows are scored with, the posterior's mode or its expectations, and in
what the prior adds to the objective.

Where clusters overlap, steps shrink by a factor close to one. A run that has not converged soon
leaps: from two steps in a row follows where many would lead (SQUAREM: Varadhan and Roland 2008,
Scandinavian Journal of Statistics 35), and a leap that does not gain is taken back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from clusterwise.core.arrays import constant
from clusterwise.core.block import AbstractBlock, Totals
from clusterwise.core.rows import RowBlock
from clusterwise.core.runtime import Effort, Program
from clusterwise.engines.step import expectation, expectation_program
from clusterwise.sources.source import Source

_PROGRAM_STEPS = 64
_QUIET_STEPS = 3
_ROUNDING = 1e-14
_LEAST_STRIDE = 1e-6
_STEPS_BEFORE_LEAPS = 50
_FIRST_LEAP = 4.0
_FEW_NUMBERS, _MANY_NUMBERS = 2**19, 2**20
WIDE = 48

Progress = Callable[[str, int, int], None]


class AbstractProjection(eqx.Module):
    """How a posterior enters the score and the objective."""

    @abstractmethod
    def project(self, posterior: Any, prior: Any) -> tuple[Any, Float[Array, ""]]:
        """Moments to score with, and what the objective adds to the rows' log density."""


class ModeProjection(AbstractProjection):
    """Posterior mode: EM, with the prior's log kernel as penalty (Dempster et al. 1977)."""

    def project(self, posterior: Any, prior: Any) -> tuple[Any, Float[Array, ""]]:
        mode = posterior.mode()
        return mode.moments(), prior.log_kernel(mode)


class MeanProjection(AbstractProjection):
    """Expectations: mean-field variational inference (Bishop 2006, section 10.2)."""

    def project(self, posterior: Any, prior: Any) -> tuple[Any, Float[Array, ""]]:
        return posterior.moments(), -posterior.kl(prior)


class Stride(NamedTuple):
    """An update that may go too far: from where, to where, and how much of it is made."""

    start: Any
    end: Any
    rate: Float[Array, ""]


class Leap(NamedTuple):
    """Where a run with leaps is.

    `kept` is the posterior, its numbers in a row, one step before where a step was made, and after
    a leap the one that the steps led to. A leap is at most `longest` times as long as a step.
    """

    phase: Array
    kept: Float[Array, " numbers"]
    longest: Float[Array, ""]


_LANDED, _STEPPED, _LEAPT = range(3)


class Ascent(NamedTuple):
    """State of one run; `objective` is that of the posterior before the last update.

    Blocks that are not exact have the pace of a stride, whose updates are shortened until they
    gain, the others that of leaps.
    """

    posterior: Any
    objective: Float[Array, ""]
    gain: Float[Array, ""]
    quiet: Array
    n_iter: Array
    pace: Stride | Leap

    @property
    def converged(self) -> Array:
        return self.quiet >= _QUIET_STEPS


class Stopping(NamedTuple):
    """Stop where the gain still to be expected is below `tol` per row; never, if that is zero."""

    tol: Float[Array, ""]
    max_iter: Array
    total_weight: Float[Array, ""]

    @property
    def bound(self) -> Array:
        return self.tol * self.total_weight


def begin(block: AbstractBlock, posterior: Any) -> Ascent:
    """State before the first iteration; typed as the later ones, so that it compiles nothing."""
    never, zero = constant(np.inf), constant(0)
    pace = Stride(posterior, posterior, constant(1.0))
    if block.exact:
        kept = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(posterior)])
        pace = Leap(constant(_LANDED), constant(kept), constant(_FIRST_LEAP))
    return Ascent(posterior, constant(-np.inf), never, zero, zero, pace)


def advance(
    block: AbstractBlock,
    prior: Any,
    state: Ascent,
    moments: Any,
    penalty: Float[Array, ""],
    totals: Totals,
    stopping: Stopping,
) -> Ascent:
    """Update the posterior and judge convergence.

    Gains shrink by a steady factor near an optimum, so that the sum of those to come follows from
    the last two (Boehning et al. 1994). While they grow, as they do on the plateau around a start
    at which all clusters are nearly equal, no gain is small enough.
    """
    objective = totals.log_density + penalty
    gain = objective - state.objective
    rate = gain / state.gain
    to_come = jnp.where((rate > 0) & (rate < 1), gain * rate / (1 - rate), jnp.inf)
    within_rounding = (stopping.tol > 0) & (jnp.abs(gain) <= _ROUNDING * jnp.abs(objective))
    quiet = within_rounding | ((to_come < stopping.bound) & (gain < stopping.bound))
    onward = Ascent(
        block.posterior(totals.statistics, prior, moments),
        objective,
        gain,
        jnp.where(quiet, state.quiet + 1, 0),
        state.n_iter + 1,
        state.pace,
    )
    if isinstance(state.pace, Stride):
        return _strode(block, state, state.pace, onward)
    return _leapt(state, state.pace, onward, stopping)


def _strode(block: AbstractBlock, state: Ascent, stride: Stride, onward: Ascent) -> Ascent:
    """Go on from a gain, or shorten the stride that lost; one too short to matter ends the run."""
    rounding = _ROUNDING * jnp.abs(state.objective)
    gained = onward.objective >= jnp.where(state.n_iter > 0, state.objective - rounding, -jnp.inf)
    rate = stride.rate / 2
    shorter = block.blend(stride.start, stride.end, rate)
    lost = state._replace(
        posterior=shorter,
        quiet=jnp.where(rate < _LEAST_STRIDE, _QUIET_STEPS, state.quiet),
        n_iter=onward.n_iter,
        pace=stride._replace(rate=rate),
    )
    ahead = onward._replace(pace=Stride(state.posterior, onward.posterior, jnp.ones(())))
    return jax.tree.map(lambda a, b: jnp.where(gained, a, b), ahead, lost)


def _leapt(state: Ascent, leap: Leap, onward: Ascent, stopping: Stopping) -> Ascent:
    """Step, leap after two steps, or take back a leap that lost."""
    tail = leap.phase == _STEPPED
    after_leap = leap.phase == _LEAPT
    rounding = _ROUNDING * jnp.abs(state.objective)
    lost = after_leap & ~(onward.objective >= state.objective - rounding)
    # Two gains tell how gains shrink only where nothing but steps lies between them.
    quiet = jnp.where(tail, onward.quiet, state.quiet)
    quiet = jnp.where(after_leap & ~(onward.gain < stopping.bound), 0, quiet)
    now, _ = ravel_pytree(state.posterior)
    after, as_posterior = ravel_pytree(onward.posterior)
    target, length = _leap(leap.kept, now, after, leap.longest)
    # The last posterior must be one that was tried.
    more = (quiet < _QUIET_STEPS) & (onward.n_iter < stopping.max_iter)
    ready = tail & more & (onward.n_iter >= _STEPS_BEFORE_LEAPS)
    leaping = ready & (length > 1)

    def choose(back: Any, far: Any, near: Any) -> Any:
        return jnp.where(lost, back, jnp.where(leaping, far, near))

    longer = jnp.where(ready & (length >= leap.longest), 4 * leap.longest, leap.longest)
    longest = jnp.where(lost, jnp.maximum(leap.longest / 4, 1.0), longer)
    phase = jnp.where(leaping, _LEAPT, jnp.where(after_leap, _LANDED, _STEPPED)).astype(int)
    return onward._replace(
        posterior=as_posterior(choose(leap.kept, target, after)),
        objective=jnp.where(lost, state.objective, onward.objective),
        quiet=quiet,
        pace=Leap(phase, choose(leap.kept, after, now), longest),
    )


def _leap(
    before: Array, now: Array, after: Array, longest: Float[Array, ""]
) -> tuple[Array, Float[Array, ""]]:
    """Where steps from before to now to after lead to, and how many they stand for."""
    step = now - before
    turn = after - now - step
    length = jnp.minimum(jnp.sqrt(jnp.sum(step**2) / jnp.sum(turn**2)), longest)
    return before + 2 * length * step + length**2 * turn, length


def _run(
    projection: AbstractProjection,
    block: AbstractBlock,
    prior: Any,
    rows: RowBlock,
    state: Ascent,
    stopping: Stopping,
) -> tuple[Ascent, Float[Array, " steps"]]:
    """Some iterations over rows that are in memory, in one program."""
    limit = jnp.minimum(state.n_iter + _PROGRAM_STEPS, stopping.max_iter)
    first = state.n_iter

    def unfinished(carry: tuple[Ascent, Array]) -> Array:
        now = carry[0]
        return ~now.converged & ~jnp.isnan(now.objective) & (now.n_iter < limit)

    def iterate(carry: tuple[Ascent, Array]) -> tuple[Ascent, Array]:
        now, history = carry
        moments, penalty = projection.project(now.posterior, prior)
        totals = expectation(block, moments, rows)
        after = advance(block, prior, now, moments, penalty, totals, stopping)
        return after, history.at[now.n_iter - first].set(after.objective)

    return lax.while_loop(unfinished, iterate, (state, jnp.zeros(_PROGRAM_STEPS)))


@partial(Program, effort=Effort.SOME)
def _project_program(projection: AbstractProjection, posterior: Any, prior: Any) -> Any:
    return projection.project(posterior, prior)


@Program
def _as_posterior_program(prior: Any) -> Any:
    return prior.as_posterior()


_advance_program = Program(advance, effort=Effort.SOME)
_run_programs = {effort: Program(_run, effort=effort) for effort in Effort}


class AscentResult(NamedTuple):
    """Where a run ended."""

    posterior: Any
    objective: float
    history: np.ndarray
    converged: bool
    n_iter: int


def run_block(
    projection: AbstractProjection,
    block: AbstractBlock,
    prior: Any,
    rows: RowBlock,
    total_weight: float,
    posterior: Any,
    *,
    tol: float,
    max_iter: int,
    short: bool = False,
) -> AscentResult:
    """Run over rows that fit in one block, many iterations to a program.

    A run that is `short`, or over few rows, is over before a better program is compiled.
    """
    numbers = rows.packed.size * jax.tree.leaves(posterior)[0].shape[0]
    # Blocks that are not exact take more iterations, since they do not leap.
    few = short or (block.exact and numbers <= _FEW_NUMBERS)
    effort = Effort.LEAST if few else Effort.MOST if numbers > _MANY_NUMBERS else Effort.SOME
    program = _run_programs[effort]
    stopping = _stopping(tol, max_iter, total_weight)
    state, histories = begin(block, posterior), []
    while True:
        before = int(state.n_iter)
        state, history = program(projection, block, prior, rows, state, stopping)
        after = int(state.n_iter)
        histories.append(np.asarray(history)[: after - before])
        if bool(state.converged) or after >= max_iter or np.isnan(state.objective):
            return _result(state, np.concatenate(histories))


def run_source(
    projection: AbstractProjection,
    block: AbstractBlock,
    prior: Any,
    source: Source,
    posterior: Any,
    *,
    tol: float,
    max_iter: int,
    progress: Progress,
    short: bool = False,
) -> AscentResult:
    """Run over all rows of a source, in one program where they are few and narrow.

    XLA's executor for CPUs may run the parts of a loop's body side by side, and on few cores
    deadlocks where both want its thread pool, which they do for wide rows; then each part is a
    program of its own.
    """
    if source.n_blocks == 1 and not is_wide(source):
        return run_block(
            projection,
            block,
            prior,
            source.block(0),
            source.total_weight,
            posterior,
            tol=tol,
            max_iter=max_iter,
            short=short,
        )
    stopping = _stopping(tol, max_iter, source.total_weight)
    state, history = begin(block, posterior), []
    for iteration in range(max_iter):
        moments, penalty = _project_program(projection, state.posterior, prior)
        totals = source.sum(partial(expectation_program, block, moments))
        state = _advance_program(block, prior, state, moments, penalty, totals, stopping)
        history.append(float(state.objective))
        progress("iterations", iteration + 1, max_iter)
        if bool(state.converged) or np.isnan(history[-1]):
            break
    return _result(state, np.asarray(history))


def compile_ahead(
    projection: AbstractProjection, block: AbstractBlock, prior: Any, source: Source
) -> None:
    """Compile what `run_source` needs for several blocks, by one step from the prior."""
    first = _as_posterior_program(prior)
    moments, penalty = _project_program(projection, first, prior)
    totals = expectation_program(block, moments, source.block(0))
    stopping = _stopping(0.0, 1, source.total_weight)
    _advance_program(block, prior, begin(block, first), moments, penalty, totals, stopping)


def is_wide(source: Source) -> bool:
    """Whether rows have so many columns that the parts of a step must be programs of their own."""
    return source.block(0).n_columns > WIDE


def _stopping(tol: float, max_iter: int, total_weight: float) -> Stopping:
    return Stopping(constant(float(tol)), constant(max_iter), constant(float(total_weight)))


def _result(state: Ascent, history: np.ndarray) -> AscentResult:
    return AscentResult(
        state.posterior,
        float(state.objective),
        history,
        bool(state.converged),
        int(state.n_iter),
    )
