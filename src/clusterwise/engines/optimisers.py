"""Engines that climb to a posterior or its mode: EM and variational inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.core.random import random_key
from clusterwise.engines.ascent import MeanProjection, ModeProjection, Progress
from clusterwise.engines.engine import N_INIT, AbstractEngine, check_at_least, check_narrow
from clusterwise.engines.outcomes import outcome_at
from clusterwise.engines.problem import Outcome, Problem
from clusterwise.engines.search import Found, search
from clusterwise.engines.svi import run_memoized, run_stochastic


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
    n_init: int = N_INIT
    name: ClassVar[str] = "em"
    flat_prior: ClassVar[bool] = True
    seeks_mode: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_at_least(self, max_iter=1, n_init=1, tol=0)

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
        return outcome_at(problem, found, found.best, variational=False)


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
    n_init: int = N_INIT
    name: ClassVar[str] = "vi"
    flat_prior: ClassVar[bool] = False
    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_at_least(self, max_iter=1, n_init=1, tol=0)

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        found = self.search(problem, rng, progress)
        return outcome_at(problem, found, found.best, variational=True)

    def search(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Found:
        """The optima, for the engines that start from them, too."""
        return search(
            MeanProjection(),
            problem,
            n_init=self.n_init,
            tol=self.tol,
            max_iter=self.max_iter,
            rng=rng,
            progress=progress,
        )


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
    n_init: int = N_INIT
    name: ClassVar[str] = "svi"
    flat_prior: ClassVar[bool] = False
    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_at_least(self, batch_size=1, max_epochs=1, n_init=1, tol=0, delay=1)
        if not 0.5 < self.forgetting <= 1:
            raise OptionError(
                f"SVI(forgetting={self.forgetting}) must lie in (0.5, 1] for the steps to converge."
            )

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        check_narrow(self.name, problem)
        found = VI(n_init=self.n_init).search(_on_sample(problem), rng, progress)
        result = run_stochastic(
            problem.block,
            problem.prior,
            problem.source,
            found.best.posterior,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            rate=(self.delay, self.forgetting),
            tol=self.tol,
            key=random_key(int(rng.integers(2**63))),
            progress=progress,
        )
        return outcome_at(problem, found, result, variational=True)


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
    n_init: int = N_INIT
    name: ClassVar[str] = "memoized"
    flat_prior: ClassVar[bool] = False
    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_at_least(self, max_epochs=1, n_init=1, tol=0)

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        check_narrow(self.name, problem)
        if not problem.block.exact:
            raise OptionError(
                f"engine={self.name!r} needs Gaussian responses and weights without gates; use "
                "engine='vi' or 'svi'."
            )
        found = VI(n_init=self.n_init).search(_on_sample(problem), rng, progress)
        result = run_memoized(
            problem.block,
            problem.prior,
            problem.source,
            found.best.posterior,
            max_epochs=self.max_epochs,
            tol=self.tol,
            progress=progress,
        )
        return outcome_at(problem, found, result, variational=True)


def _on_sample(problem: Problem) -> Problem:
    return problem._replace(source=problem.sample)
