"""From where an engine ended to what is kept of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from clusterwise.core.runtime import Program
from clusterwise.engines.ascent import AscentResult
from clusterwise.engines.chains import Draws
from clusterwise.engines.problem import Optimum, Outcome, Problem
from clusterwise.engines.search import Found, evaluate, readings_program


def outcome_at(
    problem: Problem, found: Found, result: AscentResult, *, variational: bool
) -> Outcome:
    """What a posterior found by search says, at its mode or in expectation."""
    parameters, at_mode, expected = readings_program(result.posterior)
    log_likelihood, entropy = evaluate(problem, at_mode)
    optima = found.optima
    if result is not found.best:
        optima = _from_sample(problem, optima, parameters, result.objective, log_likelihood)
    return Outcome(
        posterior=result.posterior,
        parameters=parameters,
        moments=expected if variational else at_mode,
        converged=result.converged,
        n_iter=result.n_iter,
        history=result.history,
        optima=optima,
        n_starts=found.n_starts,
        draws=None,
        draws_from_posterior=variational,
        objective=result.objective,
        log_likelihood=log_likelihood,
        entropy=entropy,
    )


def outcome_of_draws(problem: Problem, found: Found, draws: Draws, n_iter: int) -> Outcome:
    """What draws say on average; `found` is the variational fit that they started from."""
    mean, moments = _mean(jax.tree.map(jnp.asarray, draws.parameters))
    log_likelihood, entropy = evaluate(problem, moments)
    return Outcome(
        posterior=found.best.posterior,
        parameters=mean,
        moments=moments,
        converged=True,
        n_iter=n_iter,
        history=draws.log_density.mean(axis=0),
        optima=found.optima,
        n_starts=found.n_starts,
        draws=draws,
        draws_from_posterior=False,
        objective=found.best.objective,
        log_likelihood=log_likelihood,
        entropy=entropy,
    )


def _from_sample(
    problem: Problem,
    optima: list[Optimum],
    parameters: Any,
    objective: float,
    log_likelihood: float,
) -> list[Optimum]:
    """Optima of the sample for as many rows as there are; only the chosen one was finished."""
    scale = problem.source.total_weight / problem.sample.total_weight
    return [
        optimum._replace(parameters=parameters, objective=objective, log_likelihood=log_likelihood)
        if optimum.chosen
        else optimum._replace(
            objective=optimum.objective * scale,
            log_likelihood=optimum.log_likelihood * scale,
            finished=False,
        )
        for optimum in optima
    ]


@Program
def _mean(draws: Any) -> tuple[Any, Any]:
    mean = draws.mean_of_draws()
    return mean, mean.moments()
