"""What an engine is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from clusterwise.core.block import AbstractBlock
from clusterwise.engines.chains import Draws
from clusterwise.engines.checkpoint import Checkpoint
from clusterwise.engines.degeneracy import Degeneracy
from clusterwise.engines.start import Start, StartData
from clusterwise.sources.source import Source


class Problem(NamedTuple):
    """A model over rows in standard units.

    `sample` holds some of the rows of `source` in one block, or all of them; `joint` is the model
    with a density of all numeric columns that lends its memberships to a conditional one;
    `checkpoint` where a sampler keeps what it needs to be resumed. `free_prior` is the prior where
    it is not conjugate, of which only `unnormalised_log_prob` is known. `starts` are memberships
    of the sample's rows that an engine starts from besides its own, read when those have run.
    """

    block: AbstractBlock
    prior: Any
    n_components: int
    source: Source
    sample: Source
    start_data: StartData
    joint: tuple[AbstractBlock, Any] | None
    degeneracy: Degeneracy
    checkpoint: Checkpoint | None = None
    free_prior: Any = None
    starts: Iterable[Start] = ()


class Optimum(NamedTuple):
    """One optimum: where its mode is, how many starts reached it, from which recipes.

    One that was not `finished` was left on the sample, being far from the best there.
    """

    parameters: Any
    objective: float
    log_likelihood: float
    reached: int
    recipes: tuple[str, ...]
    degenerate: tuple[str, ...]
    chosen: bool
    finished: bool


class Outcome(NamedTuple):
    """What an engine found; `draws_from_posterior` where its posterior can be sampled."""

    posterior: Any
    parameters: Any
    moments: Any
    converged: bool
    n_iter: int
    history: np.ndarray
    optima: list[Optimum]
    n_starts: int
    draws: Draws | None
    draws_from_posterior: bool
    objective: float
    log_likelihood: float
    entropy: float
