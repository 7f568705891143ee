"""Engines that draw from the posterior: Gibbs sampling and NUTS."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from clusterwise.core.arrays import constant
from clusterwise.core.block import AbstractBlock
from clusterwise.core.errors import OptionError
from clusterwise.core.random import random_key
from clusterwise.core.rows import RowBlock, Rows
from clusterwise.core.runtime import Program
from clusterwise.engines.ascent import Progress
from clusterwise.engines.chains import Chains, Draws
from clusterwise.engines.engine import N_INIT, AbstractEngine, check_at_least, check_narrow
from clusterwise.engines.gibbs import run_gibbs
from clusterwise.engines.nuts import DEEPEST, run_nuts
from clusterwise.engines.optimisers import VI
from clusterwise.engines.outcomes import outcome_of_draws
from clusterwise.engines.problem import Outcome, Problem


class AbstractSampler(AbstractEngine):
    """Chains that start from a variational fit, and whose draws are relabelled to it."""

    num_warmup: int
    num_samples: int
    num_chains: int
    n_init: int
    resumable: ClassVar[bool] = True

    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        self.check_rows(problem)
        found = VI(n_init=self.n_init).search(problem, rng, progress)
        start = found.best.posterior
        chains = Chains(
            self.num_warmup,
            self.num_samples,
            self.num_chains,
            random_key(int(rng.integers(2**63))),
            progress,
            problem.checkpoint,
        )
        draws = self.draw(problem, start, _moments(start), chains)
        return outcome_of_draws(problem, found, draws, self.num_warmup + self.num_samples)

    @abstractmethod
    def check_rows(self, problem: Problem) -> None:
        """Refuse rows that the sampler cannot take."""

    @abstractmethod
    def draw(self, problem: Problem, start: Any, pivot: Any, chains: Chains) -> Draws:
        """Draw from a starting posterior and relabel to a pivot's moments."""


@dataclass(frozen=True)
class Gibbs(AbstractSampler):
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
    n_init: int = N_INIT
    name: ClassVar[str] = "gibbs"
    flat_prior: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_at_least(self, num_warmup=0, num_samples=1, num_chains=1, n_init=1)

    def check_rows(self, problem: Problem) -> None:
        if any(problem.source.map(partial(_has_other_weights, problem.block))):
            raise OptionError(
                "engine='gibbs' draws one cluster for a row, so that sample_weight may be 0 or 1 "
                "only; repeat rows instead, or use engine='nuts', 'vi' or 'em'."
            )

    def draw(self, problem: Problem, start: Any, pivot: Any, chains: Chains) -> Draws:
        return run_gibbs(problem.block, problem.prior, problem.source, start, pivot, chains)


@dataclass(frozen=True)
class NUTS(AbstractSampler):
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
    n_init: int = N_INIT
    name: ClassVar[str] = "nuts"
    flat_prior: ClassVar[bool] = False
    any_prior: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_at_least(self, num_warmup=1, num_samples=1, num_chains=1, max_tree_depth=1, n_init=1)
        accept = self.target_accept
        if not isinstance(accept, (int, float, np.number)) or not 0 < accept < 1:
            raise OptionError(f"NUTS(target_accept={accept!r}) must lie between 0 and 1.")
        if self.max_tree_depth > DEEPEST:
            raise OptionError(
                f"NUTS(max_tree_depth={self.max_tree_depth!r}) must be at most {DEEPEST}."
            )

    def check_rows(self, problem: Problem) -> None:
        check_narrow(self.name, problem)

    def draw(self, problem: Problem, start: Any, pivot: Any, chains: Chains) -> Draws:
        return run_nuts(
            problem.block,
            problem.prior if problem.free_prior is None else problem.free_prior,
            problem.source,
            start,
            pivot,
            chains,
            target_accept=self.target_accept,
            max_tree_depth=self.max_tree_depth,
        )


@Program
def _moments(posterior: Any) -> Any:
    return posterior.moments()


def _has_other_weights(block: AbstractBlock, rows: RowBlock) -> bool:
    packed = constant(np.moveaxis(np.asarray(rows.packed), 1, 0))
    weight = block.once(Rows(packed[:-1], packed[-1]))
    # That of a group is one up to rounding.
    return not np.allclose(weight, np.round(weight).clip(0, 1), rtol=0, atol=1e-12)
