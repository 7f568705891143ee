"""Many starts, few optima: run the portfolio, finish the best, report where all of them ended."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clusterwise.core.block import AbstractBlock
from clusterwise.core.rows import RowBlock
from clusterwise.core.runtime import parallel_map
from clusterwise.engines.ascent import (
    AbstractProjection,
    AscentResult,
    ModeProjection,
    Progress,
    run_block,
    run_source,
)
from clusterwise.engines.problem import Optimum, Problem
from clusterwise.engines.start import Start, portfolio
from clusterwise.engines.step import Totals, expectation_program, score_program, start_program

_SHORT_ITERATIONS = 200
_SHORT_TOL = 1e-6
_FINALISTS = 3
_JOINT_STARTS = 6
_SAME_PER_ROW = 1e-5
_SAME = 1e-3


class _Run(NamedTuple):
    result: AscentResult
    recipes: tuple[str, ...]


class Found(NamedTuple):
    """The chosen run and every distinct optimum, best first."""

    best: AscentResult
    optima: list[Optimum]
    n_starts: int


def search(
    projection: AbstractProjection,
    problem: Problem,
    *,
    n_init: int,
    tol: float,
    max_iter: int,
    rng: np.random.Generator,
    progress: Progress,
) -> Found:
    """Run the portfolio on the sample and the best of it on all rows.

    Where the sample holds all rows, every start runs to its end.
    """
    complete = problem.sample is problem.source
    starts = portfolio(problem.start_data, problem.n_components, n_init, rng)
    if problem.joint is not None and n_init > 1:
        starts += _joint_starts(problem, rng)
    runs = _run_starts(
        projection,
        problem,
        starts,
        tol=tol if complete else _SHORT_TOL,
        max_iter=max_iter if complete else _SHORT_ITERATIONS,
        progress=progress,
    )
    groups = _group(runs, _tolerance(problem.sample.total_weight, coarse=not complete))
    if not complete:
        criterion = partial(_criterion, problem, problem.sample.total_weight)
        finalists = sorted(groups, key=criterion, reverse=True)[:_FINALISTS]
        finished = [
            run._replace(
                result=run_source(
                    projection,
                    problem.block,
                    problem.prior,
                    problem.source,
                    run.result.posterior,
                    tol=tol,
                    max_iter=max_iter,
                    progress=progress,
                )
            )
            for run in finalists
        ]
        groups = _group(finished, _tolerance(problem.source.total_weight, coarse=False))
    return _judge(problem, groups, len(starts))


def _run_starts(
    projection: AbstractProjection,
    problem: Problem,
    starts: list[Start],
    *,
    tol: float,
    max_iter: int,
    progress: Progress,
    model: tuple[AbstractBlock, Any] | None = None,
) -> list[_Run]:
    block, prior = model or (problem.block, problem.prior)
    rows = problem.sample.block(0)
    done = 0

    def run(start: Start) -> _Run:
        nonlocal done
        posterior = start_program(block, prior, rows, padded(start.labels, rows))
        result = run_block(
            projection,
            block,
            prior,
            rows,
            problem.sample.total_weight,
            posterior,
            tol=tol,
            max_iter=max_iter,
        )
        done += 1
        progress("starts", done, len(starts))
        return _Run(result, (start.recipe,))

    # The first start compiles; the others then find its program.
    first, rest = starts[:1], starts[1:]
    runs = [*parallel_map(run, first), *parallel_map(run, rest)]
    return [r for r in runs if np.isfinite(r.result.objective)]


def padded(labels: np.ndarray, rows: RowBlock) -> np.ndarray:
    """Labels for every slot of a block."""
    chunks, _, size = rows.packed.shape
    return np.pad(labels.astype(np.int32), (0, chunks * size - labels.size))


def _joint_starts(problem: Problem, rng: np.random.Generator) -> list[Start]:
    """Memberships of the model that also has a density of the covariates.

    A conditional model may have an optimum that no start of its own leads to, but the joint
    model's clusters do.
    """
    assert problem.joint is not None
    data = problem.start_data._replace(regressions=())
    starts = portfolio(data, problem.n_components, _JOINT_STARTS, rng)
    runs = _run_starts(
        ModeProjection(),
        problem,
        starts,
        tol=_SHORT_TOL,
        max_iter=_SHORT_ITERATIONS,
        progress=lambda *_: None,
        model=problem.joint,
    )
    rows = problem.sample.block(0)
    tolerance = _tolerance(problem.sample.total_weight, coarse=True)
    found = []
    for run in _group(runs, tolerance)[:_FINALISTS]:
        moments = _mode_moments(run.result.posterior)
        score = np.asarray(score_program(problem.joint[0], moments, rows))
        labels = score.argmax(axis=1).ravel()[: problem.start_data.n_rows]
        found.append(Start("joint density", labels))
    return found


@jax.jit
def _mode_moments(posterior: Any) -> Any:
    return posterior.mode().moments()


def _tolerance(total_weight: float, *, coarse: bool) -> float:
    return (10 if coarse else 1) * (_SAME + _SAME_PER_ROW * total_weight)


def _group(runs: list[_Run], tolerance: float) -> list[_Run]:
    """One run for each distinct objective, with the recipes of all that reached it."""
    groups: list[_Run] = []
    for run in sorted(runs, key=lambda r: r.result.objective, reverse=True):
        if groups and groups[-1].result.objective - run.result.objective < tolerance:
            last = groups[-1]
            groups[-1] = last._replace(recipes=last.recipes + run.recipes)
        else:
            groups.append(run)
    return groups


def evaluate(problem: Problem, moments: Any) -> tuple[float, float]:
    """Log density of all rows at these moments, and the entropy of their memberships."""
    totals = problem.source.sum(partial(expectation_program, problem.block, moments))
    return float(totals.log_density), float(_entropy(problem.block, moments, totals))


@jax.jit
def _entropy(block: AbstractBlock, moments: Any, totals: Totals) -> jax.Array:
    score = jnp.trace(block.cross_score(moments, totals.statistics))
    return jnp.maximum(totals.log_density - score, 0.0)


def _criterion(problem: Problem, total_weight: float, run: _Run) -> float:
    return run.result.objective - problem.spuriousness(run.result.posterior) / np.sqrt(total_weight)


def _judge(problem: Problem, groups: list[_Run], n_starts: int) -> Found:
    """Choose among optima, and say which owe their likelihood to a collapsing cluster.

    The penalty has the form of Chen, Tan and Zhang (2008, Statistica Sinica 18): the ratios of the
    pooled to each cluster's variance, here over the square root of n. It is small beside the gain
    from a real cluster, however tight, and decisive where a few rows make a variance vanish.
    """
    chosen = max(groups, key=partial(_criterion, problem, problem.source.total_weight))
    optima = []
    for run in groups:
        result = run.result
        log_likelihood, _ = evaluate(problem, _mode_moments(result.posterior))
        reasons = problem.collapsed(result.posterior)
        if run is not chosen and result.objective > chosen.result.objective:
            reasons = reasons or problem.smallest(result.posterior)
        counts = Counter(run.recipes).most_common()
        optima.append(
            Optimum(
                result.posterior,
                result.objective,
                log_likelihood,
                len(run.recipes),
                tuple(name for name, _ in counts),
                reasons,
                run is chosen,
            )
        )
    return Found(chosen.result, optima, n_starts)
