"""The engines a user chooses from. Each says what it needs, and fails early without it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.core.random import random_key
from clusterwise.core.rows import RowBlock
from clusterwise.core.runtime import Program
from clusterwise.engines.ascent import (
    WIDE,
    AscentResult,
    MeanProjection,
    ModeProjection,
    Progress,
    is_wide,
)
from clusterwise.engines.gibbs import run_gibbs
from clusterwise.engines.problem import Optimum, Outcome, Problem
from clusterwise.engines.search import Found, evaluate, search
from clusterwise.engines.svi import run_memoized, run_stochastic

_N_INIT = 32


class AbstractEngine(ABC):
    """A way to infer a model's parameters from rows."""

    name: ClassVar[str]
    flat_prior: ClassVar[bool]
    resumable: ClassVar[bool] = False
    any_prior: ClassVar[bool] = False

    def check(self, proper: bool, free: Sequence[str] = ()) -> None:
        """Refuse a prior that the engine cannot take.

        Parameters
        ----------
        proper
            Whether it is a distribution.
        free
            Parts of it that are any distributions, not conjugate ones.
        """
        if free and not self.any_prior:
            raise OptionError(
                f"engine={self.name!r} takes conjugate priors, not the NumPyro distributions of "
                f"prior[{free[0]!r}]: use engine='nuts', or a prior such as "
                "cw.NormalInverseGamma(...)."
            )
        if not proper and not self.flat_prior:
            raise OptionError(
                f"engine={self.name!r} needs a proper prior: use prior='default' or explicit "
                "priors, or engine='em' for maximum likelihood with prior='flat'."
            )

    @abstractmethod
    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        """Fit."""


@dataclass(frozen=True)
class EM(AbstractEngine):
    """Expectation-maximisation: the posterior mode, or maximum likelihood with a flat prior.

    Parameters
    ----------
    max_iter
        Most iterations of one run.
    tol
        A run stops where the gain still to be expected, per row, is below this; with 0 it makes
        all `max_iter` iterations.
    n_init
        Number of starts; see `Fit.restarts` for where they ended.

    References
    ----------
    Dempster, Laird and Rubin (1977), JRSS B 39; DeSarbo and Cron (1988), Journal of
    Classification 5.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.EM(max_iter=100).max_iter
    100
    """

    max_iter: int = 5000
    tol: float = 1e-9
    n_init: int = _N_INIT
    name: ClassVar[str] = "em"
    flat_prior: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_at_least(self, max_iter=1, n_init=1, tol=0)

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        found = search(
            ModeProjection(),
            problem,
            n_init=self.n_init,
            tol=self.tol,
            max_iter=self.max_iter,
            rng=rng,
            progress=progress,
        )
        return _outcome(problem, found, found.best, variational=False)


@dataclass(frozen=True)
class VI(AbstractEngine):
    """Mean-field variational inference by coordinate ascent.

    Parameters
    ----------
    max_iter, tol, n_init
        As for `EM`, on the evidence lower bound.

    References
    ----------
    Bishop (2006), Pattern Recognition and Machine Learning, section 10.2.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.VI(n_init=4).n_init
    4
    """

    max_iter: int = 2000
    tol: float = 1e-8
    n_init: int = _N_INIT
    name: ClassVar[str] = "vi"
    flat_prior: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_at_least(self, max_iter=1, n_init=1, tol=0)

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        found = _variational(self, problem, rng, progress)
        return _outcome(problem, found, found.best, variational=True)


@dataclass(frozen=True)
class SVI(AbstractEngine):
    """Stochastic variational inference over random batches of rows.

    Parameters
    ----------
    batch_size
        Rows in a batch.
    max_epochs
        Most passes over the rows.
    delay, forgetting
        Step t mixes a batch in with rate (delay + t) ** -forgetting; delay at least 1, so that no
        rate is above one, and forgetting in (0.5, 1].
    tol
        The run stops where the objective of an epoch changes by less than this per row.
    n_init
        Number of starts, which run on a sample of the rows.

    References
    ----------
    Hoffman, Blei, Wang and Paisley (2013), JMLR 14.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.SVI(batch_size=512).batch_size
    512
    """

    batch_size: int = 1024
    max_epochs: int = 10
    delay: float = 1.0
    forgetting: float = 0.8
    tol: float = 1e-4
    n_init: int = _N_INIT
    name: ClassVar[str] = "svi"
    flat_prior: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_at_least(self, batch_size=1, max_epochs=1, n_init=1, tol=0, delay=1)
        if not 0.5 < self.forgetting <= 1:
            raise OptionError(
                f"SVI(forgetting={self.forgetting}) must lie in (0.5, 1] for the steps to converge."
            )

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        _check_narrow(self.name, problem)
        found = _variational(VI(n_init=self.n_init), _on_sample(problem), rng, progress)
        result = run_stochastic(
            problem.block,
            problem.prior,
            problem.source,
            found.best.posterior,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            rate=(self.delay, self.forgetting),
            tol=self.tol,
            key=_key(rng),
            progress=progress,
        )
        return _outcome(problem, found, result, variational=True)


@dataclass(frozen=True)
class MemoizedVI(AbstractEngine):
    """Variational inference that updates after every chunk of rows, exactly.

    The statistics of each chunk are remembered and replaced, so that there is no learning rate
    and the bound never decreases; fewer passes are needed than by `VI` on large data.

    Parameters
    ----------
    max_epochs
        Most passes over the rows.
    tol, n_init
        As for `VI`; starts run on a sample of the rows.

    References
    ----------
    Hughes and Sudderth (2013), Advances in Neural Information Processing Systems 26.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.MemoizedVI(max_epochs=50).max_epochs
    50
    """

    max_epochs: int = 500
    tol: float = 1e-8
    n_init: int = _N_INIT
    name: ClassVar[str] = "memoized"
    flat_prior: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_at_least(self, max_epochs=1, n_init=1, tol=0)

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        _check_narrow(self.name, problem)
        found = _variational(VI(n_init=self.n_init), _on_sample(problem), rng, progress)
        result = run_memoized(
            problem.block,
            problem.prior,
            problem.source,
            found.best.posterior,
            max_epochs=self.max_epochs,
            tol=self.tol,
            progress=progress,
        )
        return _outcome(problem, found, result, variational=True)


@dataclass(frozen=True)
class Gibbs(AbstractEngine):
    """Blocked Gibbs sampling, several chains at once, started from variational inference.

    Parameters
    ----------
    num_warmup
        Sweeps of each chain that are thrown away.
    num_samples
        Sweeps of each chain that are kept.
    num_chains
        Number of chains.
    n_init
        Number of starts of the variational fit whose components the draws are relabelled to.

    References
    ----------
    Diebolt and Robert (1994), JRSS B 56; Ishwaran and James (2001), JASA 96.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Gibbs(num_samples=500, num_chains=2).num_warmup
    500
    """

    num_warmup: int = 500
    num_samples: int = 1000
    num_chains: int = 4
    n_init: int = _N_INIT
    name: ClassVar[str] = "gibbs"
    flat_prior: ClassVar[bool] = False
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_at_least(self, num_warmup=0, num_samples=1, num_chains=1, n_init=1)

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        if any(problem.source.map(_has_other_weights)):
            raise OptionError(
                "engine='gibbs' draws one cluster for a row, so that sample_weight may be 0 or 1 "
                "only; repeat rows instead, or use engine='vi' or 'em'."
            )
        found = _variational(VI(n_init=self.n_init), problem, rng, progress)
        posterior = found.best.posterior
        draws = run_gibbs(
            problem.block,
            problem.prior,
            problem.source,
            posterior,
            _moments(posterior),
            num_warmup=self.num_warmup,
            num_samples=self.num_samples,
            num_chains=self.num_chains,
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


ENGINES: dict[str, type[AbstractEngine]] = {
    engine.name: engine for engine in (EM, VI, SVI, MemoizedVI, Gibbs)
}


def resolve_engine(engine: str | AbstractEngine) -> AbstractEngine:
    """An engine from its name, or as it was configured."""
    if isinstance(engine, AbstractEngine):
        return engine
    from clusterwise.engines.nuts import NUTS

    known = {**ENGINES, NUTS.name: NUTS}
    if engine not in known:
        raise OptionError(
            f"engine={engine!r} is not known; use one of {', '.join(map(repr, known))} or a "
            "configured one such as cw.EM(max_iter=500)."
        )
    return known[engine]()


def _variational(
    settings: VI, problem: Problem, rng: np.random.Generator, progress: Progress
) -> Found:
    return search(
        MeanProjection(),
        problem,
        n_init=settings.n_init,
        tol=settings.tol,
        max_iter=settings.max_iter,
        rng=rng,
        progress=progress,
    )


def _has_other_weights(rows: RowBlock) -> bool:
    weight = np.asarray(rows.packed)[:, -1]
    return not bool(np.isin(weight, (0.0, 1.0)).all())


def _check_narrow(name: str, problem: Problem) -> None:
    if is_wide(problem.source):
        raise OptionError(
            f"engine={name!r} takes up to {WIDE} columns (constant, regressors, covariates and "
            f"responses together), and the model has {problem.source.block(0).n_columns}; use "
            "engine='vi', 'em' or 'gibbs'."
        )


def _on_sample(problem: Problem) -> Problem:
    return problem._replace(source=problem.sample)


def _outcome(problem: Problem, found: Found, result: AscentResult, *, variational: bool) -> Outcome:
    parameters, at_mode, expected = _readings(result.posterior)
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
def _readings(posterior: Any) -> tuple[Any, Any, Any]:
    """The mode, its moments, and the posterior's."""
    mode = posterior.mode()
    return mode, mode.moments(), posterior.moments()


@Program
def _moments(distribution: Any) -> Any:
    return distribution.moments()


@Program
def _mean(draws: Any) -> Any:
    return draws.mean_of_draws()


def _key(rng: np.random.Generator) -> jax.Array:
    return random_key(int(rng.integers(2**63)))


def _check_at_least(engine: Any, **least: float) -> None:
    for name, bound in least.items():
        value = getattr(engine, name)
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not value >= bound:
            raise OptionError(
                f"{type(engine).__name__}({name}={value!r}) must be at least {bound}."
            )
        if isinstance(bound, int) and name not in ("tol", "delay") and int(value) != value:
            raise OptionError(f"{type(engine).__name__}({name}={value!r}) must be a whole number.")
