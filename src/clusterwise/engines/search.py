"""Many starts, few optima: run the portfolio, finish the best, report where all of them ended."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from clusterwise.core.block import AbstractBlock, Totals
from clusterwise.core.errors import OptionError
from clusterwise.core.runtime import Program, in_background, parallel_map
from clusterwise.engines.ascent import (
    AbstractProjection,
    AscentResult,
    ModeProjection,
    Progress,
    compile_ahead,
    run_source,
)
from clusterwise.engines.problem import Optimum, Problem
from clusterwise.engines.start import Start, portfolio
from clusterwise.engines.step import (
    assignment_program,
    evaluation_program,
    score_program,
    start_program,
)
from clusterwise.sources.source import Source

_SHORT_ITERATIONS = 100
_SHORT_TOL = 1e-6
_FINALISTS = 3
_RIVAL = 3.0
_JOINT_STARTS = 6
_SAME_PER_ROW = 1e-5
_SAME = 1e-3


class _Run(NamedTuple):
    result: AscentResult
    recipes: tuple[str, ...]
    parameters: Any
    moments: Any
    """Mode of the posterior, and the moments at it."""


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
    """Run starts on the sample, and what may be best of it to the end on all rows.

    The starts are those that the problem gives, and `n_init` of the portfolio.
    """
    complete = problem.sample is problem.source
    if problem.source.n_blocks > 1:
        in_background(
            lambda: compile_ahead(projection, problem.block, problem.prior, problem.source)
        )
    starts = portfolio(problem.start_data, problem.n_components, n_init, rng)
    if problem.joint is not None and n_init > 1 and problem.n_components > 1:
        starts += _joint_starts(problem, rng)
    if problem.prior.component_kinds is not None:
        # Which cluster is which component matters, and nothing but trying tells.
        starts = [s._replace(places=rng.permutation(problem.n_components)) for s in starts]
    short = partial(
        _run_starts,
        projection,
        problem,
        tol=tol if complete else _SHORT_TOL,
        max_iter=min(max_iter, _SHORT_ITERATIONS),
        progress=progress,
    )
    runs = short(starts)
    # Last, since they may wait for what another fit finds.
    given = list(problem.starts)
    runs += short(given)
    starts += given
    if not runs:
        raise OptionError(
            "No start gave a finite likelihood; use prior='default', fewer components, or check "
            "the data for columns of very different size."
        )
    settings = {"tol": tol, "max_iter": max_iter, "progress": progress}
    sample_tolerance = _tolerance(problem.sample.total_weight, coarse=not complete)
    if complete:
        # Only a run that was cut short has anything left to gain.
        cut = [run for run in runs if not run.result.converged]
        done = [run for run in runs if run.result.converged]
        rivals, others = _rivals(problem, cut, runs)
        done += parallel_map(lambda run: _finish(projection, problem, run, **settings), rivals)
    else:
        groups = _group(runs, sample_tolerance)
        rivals, others = _rivals(problem, groups, groups)
        rivals, others = rivals[:_FINALISTS], others + rivals[_FINALISTS:]
        done = [_finish(projection, problem, run, **settings) for run in rivals]
    groups = _group(done, _tolerance(problem.source.total_weight, coarse=False))
    return _judge(problem, groups, _group(others, sample_tolerance), len(starts))


def _finish(
    projection: AbstractProjection,
    problem: Problem,
    run: _Run,
    *,
    tol: float,
    max_iter: int,
    progress: Progress,
) -> _Run:
    """Go on from a run until it converges on all rows."""
    result = run_source(
        projection,
        problem.block,
        problem.prior,
        problem.source,
        run.result.posterior,
        tol=tol,
        max_iter=max_iter,
        progress=progress,
    )
    if problem.sample is problem.source:
        result = result._replace(
            history=np.concatenate([run.result.history, result.history]),
            n_iter=run.result.n_iter + result.n_iter,
        )
    return _Run(result, run.recipes, *_at_mode(result.posterior))


def _rivals(problem: Problem, runs: list[_Run], every: list[_Run]) -> tuple[list[_Run], list[_Run]]:
    """The runs that may still turn out best of all, best first, and the others.

    The difference of two log likelihoods over n rows varies by about the square root of n.
    """
    weight = problem.sample.total_weight
    criterion = partial(_criterion, problem, weight)
    within = max(map(criterion, every)) - _RIVAL * np.sqrt(weight)
    ranked = sorted(runs, key=criterion, reverse=True)
    n_rivals = sum(criterion(run) >= within for run in ranked)
    return ranked[:n_rivals], ranked[n_rivals:]


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
    taken = rows.taken()
    done = 0

    def run(start: Start) -> _Run:
        nonlocal done
        places = start.places
        if places is None and prior.component_kinds is not None:
            places = np.arange(problem.n_components)
        given = np.zeros((problem.n_components, taken.size))
        # Where rows of a group were given different clusters, it starts in part in each.
        given[:, taken] = problem.start_data.averaged(start.resp(problem.n_components)).T
        posterior = start_program(block, prior, rows, given, places)
        result = run_source(
            projection,
            block,
            prior,
            problem.sample,
            posterior,
            tol=tol,
            max_iter=max_iter,
            progress=silent,
            short=model is not None or problem.source.n_blocks > 1,
        )
        done += 1
        progress("starts", done, len(starts))
        return _Run(result, (start.recipe,), *_at_mode(result.posterior))

    # The first start compiles; the others then find its program.
    first, rest = starts[:1], starts[1:]
    runs = [*parallel_map(run, first), *parallel_map(run, rest)]
    return [r for r in runs if np.isfinite(r.result.objective)]


def silent(what: str, done: int, total: int) -> None:
    """No progress."""


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
        progress=silent,
        model=problem.joint,
    )
    rows = problem.sample.block(0)
    tolerance = _tolerance(problem.sample.total_weight, coarse=True)
    found = []
    for run in _group(runs, tolerance)[:_FINALISTS]:
        score = np.asarray(score_program(problem.joint[0], run.moments, rows))
        labels = score.argmax(axis=1).ravel()[rows.taken()]
        found.append(Start("joint density", labels))
    return found


@Program
def readings_program(posterior: Any) -> tuple[Any, Any, Any]:
    """The mode, its moments, and the posterior's."""
    mode = posterior.mode()
    return mode, mode.moments(), posterior.moments()


def _at_mode(posterior: Any) -> tuple[Any, Any]:
    parameters, moments, _ = readings_program(posterior)
    return jax.tree.map(np.asarray, parameters), moments


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
    found = problem.source.sum(partial(evaluation_program, problem.block, moments))
    return float(found[0]), _not_negative(found[1])


def assign_rows(block: AbstractBlock, moments: Any, source: Source) -> tuple[Totals, float]:
    """Assign all rows softly: their sums, and the entropy of their memberships."""
    totals, entropy = source.sum(partial(assignment_program, block, moments))
    return totals, _not_negative(entropy)


def _not_negative(entropy: Any) -> float:
    # Rounding may make it negative.
    return max(float(entropy), 0.0)


def _criterion(problem: Problem, total_weight: float, run: _Run) -> float:
    penalty = problem.degeneracy.spuriousness(run.parameters) / np.sqrt(total_weight)
    return run.result.objective - penalty


def _judge(problem: Problem, groups: list[_Run], others: list[_Run], n_starts: int) -> Found:
    """Choose among optima, and say which owe their likelihood to a collapsing cluster.

    The penalty has the form of Chen, Tan and Zhang (2008, Statistica Sinica 18): the ratios of the
    pooled to each cluster's variance, here over the square root of n. It is small beside the gain
    from a real cluster, however tight, and decisive where a few rows make a variance vanish.
    `others` were left on the sample; their figures are the sample's, for as many rows as there are.
    """
    chosen = max(groups, key=partial(_criterion, problem, problem.source.total_weight))
    optima = []
    for run in groups:
        log_likelihood, _ = evaluate(problem, run.moments)
        reasons = problem.degeneracy.collapsed(run.parameters)
        if run is not chosen and run.result.objective > chosen.result.objective:
            reasons = reasons or problem.degeneracy.smallest(run.parameters)
        optima.append(_optimum(run, log_likelihood, reasons, chosen=run is chosen))
    on_sample = problem._replace(source=problem.sample)
    scale = problem.source.total_weight / problem.sample.total_weight
    for run in others:
        log_likelihood, _ = evaluate(on_sample, run.moments)
        scaled = run._replace(result=run.result._replace(objective=run.result.objective * scale))
        reasons = problem.degeneracy.collapsed(run.parameters)
        optima.append(_optimum(scaled, log_likelihood * scale, reasons, finished=False))
    return Found(chosen.result, optima, n_starts)


def _optimum(
    run: _Run,
    log_likelihood: float,
    reasons: tuple[str, ...],
    *,
    chosen: bool = False,
    finished: bool = True,
) -> Optimum:
    return Optimum(
        run.parameters,
        run.result.objective,
        log_likelihood,
        len(run.recipes),
        tuple(name for name, _ in Counter(run.recipes).most_common()),
        reasons,
        chosen,
        finished,
    )
