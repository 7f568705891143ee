"""Streaming variational Bayes: more rows update a posterior by their sufficient statistics.

Rows are assigned once, under the posterior of all rows before, and then forgotten (Broderick, Boyd,
Wibisono, Wilson and Jordan 2013, Advances in Neural Information Processing Systems 26).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clusterwise.core.block import AbstractBlock, Statistics
from clusterwise.core.errors import OptionError
from clusterwise.core.rows import BLOCK_ROWS, pack_rows
from clusterwise.core.runtime import Program, double_precision
from clusterwise.engines.problem import Outcome, Problem
from clusterwise.engines.search import assign_rows
from clusterwise.record import FitRecord, reorder
from clusterwise.sources.source import Source
from clusterwise.sources.store import MemoryStore

_STREAMED = (
    "Later batches were added one by one: the log likelihood is not known, and restarts and the "
    "notes above are those of the first batch."
)


class Stream(NamedTuple):
    """What streaming keeps of all rows seen, components in the engine's order.

    `entropy` is that of the memberships that the rows were counted with.
    """

    prior: Any
    moments: Any
    statistics: Statistics
    entropy: float


class _Update(NamedTuple):
    posterior: Any
    parameters: Any
    moments: Any
    bound: Any


@double_precision
def start_stream(record: FitRecord, problem: Problem, outcome: Outcome) -> tuple[FitRecord, Stream]:
    """Begin with the rows of a variational fit.

    Parameters
    ----------
    record, problem, outcome
        What is kept of the fit, what the engine was given, and what it found.

    Returns
    -------
    FitRecord
        The same, its posterior as NumPy arrays.
    Stream
        What `stream_more` needs of the rows.
    """
    if record.block.gated:
        raise OptionError(
            "partial_fit forgets rows, and weights that depend on covariates are averages over "
            "all of them; fit all rows at once, or use constant weights such as 'dirichlet'."
        )
    prior, posterior, moments = _as_arrays((problem.prior, record.posterior, outcome.moments))
    totals, entropy = assign_rows(record.block, moments, problem.source)
    stream = Stream(prior, moments, totals.statistics, entropy)
    return replace(record, posterior=posterior), stream


@double_precision
def stream_more(
    record: FitRecord, stream: Stream, rows: np.ndarray, weight: np.ndarray
) -> tuple[FitRecord, Stream]:
    """Count more rows and update the posterior.

    Parameters
    ----------
    record, stream
        Of all rows before.
    rows
        (n, columns), in standard units.
    weight
        (n,)

    Returns
    -------
    FitRecord
        That of all rows, in the order of components of the first; its log likelihood is NaN.
    Stream
    """
    source = _source(rows, weight)
    totals, entropy = assign_rows(record.block, stream.moments, source)
    stream = stream._replace(
        statistics=jax.tree.map(np.add, stream.statistics, totals.statistics),
        entropy=stream.entropy + entropy,
    )
    update: _Update = _as_arrays(
        _update(record.block, stream.prior, stream.moments, stream.statistics)
    )
    total = record.total_weight + source.total_weight
    record = replace(
        record,
        parameters=reorder(update.parameters, record.order, axis=0),
        moments=reorder(update.moments, record.order, axis=0),
        posterior=update.posterior,
        n_rows=record.n_rows + source.n_rows,
        total_weight=total,
        log_likelihood=np.nan,
        # The bound holds for memberships that are not the best any more, too.
        # Where it is taken at expansions of the likelihood, those of earlier rows are stale.
        objective=float(update.bound)
        + stream.entropy
        - total * float(record.layout.log_scales(np.zeros((1, record.layout.n_columns)))[0])
        if record.block.exact
        else np.nan,
        entropy=stream.entropy,
        n_iter=record.n_iter + 1,
        notes=(*(note for note in record.notes if note != _STREAMED), _STREAMED),
    )
    return record, stream._replace(moments=update.moments)


def _source(rows: np.ndarray, weight: np.ndarray) -> Source:
    store = MemoryStore()
    for i in range(0, len(rows), BLOCK_ROWS):
        store.append(pack_rows(rows[i : i + BLOCK_ROWS], weight[i : i + BLOCK_ROWS]))
    return Source(store, len(rows), float(weight.sum()))


@Program
def _update(block: AbstractBlock, prior: Any, moments: Any, statistics: Statistics) -> _Update:
    posterior = block.posterior(statistics, prior, moments)
    after = posterior.moments()
    bound = jnp.trace(block.cross_score(after, statistics)) - posterior.kl(prior)
    return _Update(posterior, posterior.mode(), after, bound)


def _as_arrays(tree: Any) -> Any:
    """NumPy in place of JAX arrays, which do not keep double precision in a pickle."""
    return jax.tree.map(np.asarray, tree)
