"""The bootstrap of an EM fit: refits of rows drawn anew, each from the fit's own optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from clusterwise.assembly.grouping import pack
from clusterwise.assembly.layout import Layout
from clusterwise.assembly.units import Values, in_data_units
from clusterwise.core.errors import OptionError
from clusterwise.core.groups import GroupColumns, first_rows, group_sizes
from clusterwise.core.random import RandomState, as_generator
from clusterwise.core.runtime import Program, double_precision, parallel_map
from clusterwise.engines.ascent import ModeProjection, run_source
from clusterwise.engines.averages import with_average_weights
from clusterwise.engines.optimisers import EM
from clusterwise.engines.problem import Problem
from clusterwise.engines.relabelling import match_components, match_program, permute, reorder
from clusterwise.engines.search import assign_rows, silent
from clusterwise.inference.errors import estimate_frames
from clusterwise.inference.estimates import Estimates
from clusterwise.inference.progress import Progress, progress_reporter
from clusterwise.refit import assemble_again, check_point, engine_order
from clusterwise.sources.source import Source
from clusterwise.sources.store import MemoryStore

if TYPE_CHECKING:
    from clusterwise.fit import Fit

KINDS = ("nonparametric", "parametric")


@dataclass(frozen=True)
class Bootstrap:
    """Estimates from rows drawn anew, relabelled to the fit.

    Attributes
    ----------
    kind
        "nonparametric" or "parametric".
    estimates
        The fit's own: the table of `Fit.summary`.
    replicates
        The same of every refit, one row a (replicate, component).
    converged, degenerate
        (n_replicates,) whether each refit met its tolerance, and whether a variance collapsed.
    """

    kind: str
    estimates: pd.DataFrame
    replicates: pd.DataFrame
    converged: np.ndarray
    degenerate: np.ndarray

    @cached_property
    def _used(self) -> pd.DataFrame:
        used = np.flatnonzero(~self.degenerate)
        return self.replicates.loc[
            self.replicates.index.get_level_values("replicate").isin(used), :
        ]

    def _over_replicates(self, function: Callable[[Any], Any]) -> pd.DataFrame:
        return function(self._used.groupby(level="component"))

    @property
    def standard_errors(self) -> pd.DataFrame:
        """Standard deviations over the replicates that are not degenerate."""
        return self._over_replicates(lambda grouped: grouped.std(ddof=1))

    @property
    def bias(self) -> pd.DataFrame:
        """Mean over the replicates minus the estimate."""
        return self._over_replicates(lambda grouped: grouped.mean()) - self.estimates

    def interval(self, level: float = 0.95) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Percentile intervals: their lower and their upper ends.

        Parameters
        ----------
        level
            Share of the replicates inside.
        """
        if not 0 < level < 1:
            raise OptionError(f"level={level!r} must lie between 0 and 1.")
        tails = ((1 - level) / 2, (1 + level) / 2)
        low, high = (self._over_replicates(lambda g, q=q: g.quantile(q)) for q in tails)
        return low, high

    def __str__(self) -> str:
        frame = self.standard_errors.T
        frame.columns = [f"component {label}" for label in frame.columns]
        text = frame.to_string(float_format=lambda value: f"{value:.5g}")
        return (
            f"Standard errors, {self.kind} bootstrap\n{text}\n{len(self.converged)} replicates, "
            f"{int((~self.converged).sum())} not converged, {int(self.degenerate.sum())} "
            "degenerate, which are left out"
        )

    __repr__ = __str__


class _Refit(NamedTuple):
    parameters: Any
    converged: bool
    degenerate: bool


@double_precision
def bootstrap(
    fit: Fit,
    data: Any,
    n_replicates: int,
    kind: str,
    random_state: RandomState,
    progress: bool | Progress,
) -> Bootstrap:
    """As `Fit.bootstrap`."""
    record = fit._record
    check_point(record, "Bootstrap replicates")
    if kind not in KINDS:
        raise OptionError(f"kind={kind!r} is not known; use {' or '.join(map(repr, KINDS))}.")
    whole = isinstance(n_replicates, (int, np.integer)) and not isinstance(n_replicates, bool)
    if not whole or n_replicates < 2:
        raise OptionError(f"n_replicates={n_replicates!r} must be a whole number, at least 2.")
    problem = assemble_again(fit.model, record, data).problem
    source = problem.source
    if kind == "parametric":
        instead = "use kind='nonparametric'"
        draw = simulator(fit, data, source, "kind='parametric'", instead)
    else:
        draw = resampler(source, record.layout.group_columns)
    moments = engine_order(record).moments()
    totals, _ = assign_rows(problem.block, moments, source)
    begin = _posterior(problem.block, totals.statistics, problem.prior, moments)
    rngs = as_generator(random_state).spawn(int(n_replicates))
    done = 0
    with progress_reporter(progress) as report:

        def run(rng: np.random.Generator) -> _Refit:
            nonlocal done
            found = _refit(problem, draw(rng), begin)
            done += 1
            report("replicates", done, len(rngs))
            return found

        # Blocks of one replicate are on all cores already.
        alone = source.n_blocks > 1
        refits = [run(rng) for rng in rngs] if alone else parallel_map(run, rngs)
    points = jax.tree.map(lambda *leaves: np.stack(leaves), *[one.parameters for one in refits])
    match = np.asarray(match_program(problem.block, totals.statistics, points))
    permutation = match_components(match, problem.prior.label_groups)
    points = permute(jax.tree.map(lambda leaf: leaf[None], points), permutation[None])
    values = in_data_units(record.layout, reorder(points, record.order, axis=2))
    tables = [_table(record.layout, values, i) for i in range(len(refits))]
    keys = pd.RangeIndex(len(tables), name="replicate")
    return Bootstrap(
        kind,
        estimate_frames(fit._estimates)["table"],
        pd.concat(tables, keys=keys),
        np.array([one.converged for one in refits]),
        np.array([one.degenerate for one in refits]),
    )


def _table(layout: Layout, values: Values, i: int) -> pd.DataFrame:
    """One replicate's estimates, out of those with leading axes (1, replicate)."""
    one = jax.tree.map(lambda leaf: leaf[0, i], values)
    return estimate_frames(Estimates(layout, one))["table"]


def _refit(problem: Problem, source: Source, begin: Any) -> _Refit:
    engine = EM()
    result = run_source(
        ModeProjection(),
        problem.block,
        problem.prior,
        source,
        begin,
        tol=engine.tol,
        max_iter=engine.max_iter,
        progress=silent,
    )
    parameters = with_average_weights(problem.block, source, _mode(result.posterior))
    parameters = jax.tree.map(np.asarray, parameters)
    finite = all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(parameters))
    degenerate = not finite or bool(problem.degeneracy.collapsed(parameters))
    return _Refit(parameters, result.converged, degenerate)


@Program
def _posterior(block: Any, statistics: Any, prior: Any, moments: Any) -> Any:
    return block.posterior(statistics, prior, moments)


@Program
def _mode(posterior: Any) -> Any:
    return posterior.mode()


def resampler(
    source: Source, groups: GroupColumns | None
) -> Callable[[np.random.Generator], Source]:
    """Rows or whole groups drawn with replacement, as weights of the same rows.

    Whole weights are copies of a row, which are drawn one by one; others go with their row, and
    those of the rows of a group with it.
    """
    blocks = [source.unpacked(part) for part in range(source.n_blocks)]
    rows = np.concatenate(blocks)
    ends = np.cumsum([len(own) for own in blocks])[:-1]
    first = first_rows(groups, rows)
    sizes, weight = group_sizes(first, len(rows)), rows[:, -1]
    copies = groups is None and bool(np.all(weight == np.round(weight)))
    counts = weight if copies else np.add.reduceat(weight, first) > 0
    own = np.where(copies, 1.0, weight)

    def draw(rng: np.random.Generator) -> Source:
        drawn = rng.multinomial(int(counts.sum()), counts / counts.sum())
        drawn = own * np.repeat(drawn, sizes)
        store = MemoryStore()
        for part, some in enumerate(np.split(drawn, ends)):
            packed = np.array(source.block(part).packed)
            packed[:, -1][packed[:, 0] != 0] = some
            store.append(packed)
        return Source(store, source.n_rows, float(drawn.sum()))

    return draw


def simulator(
    fit: Fit, data: Any, source: Source, what: str, instead: str
) -> Callable[[np.random.Generator], Source]:
    """Responses, and covariates that have a density, drawn from the fit, in its units.

    Parameters
    ----------
    fit
        Where from.
    data, source
        The rows that were fitted, as they were given and as they were packed.
    what, instead
        Who asks, and what else would do, for errors.

    Raises
    ------
    OptionError
        Where rows that are drawn could not be like those of the data.
    """
    if fit.missing.any():
        raise OptionError(
            f"{what} draws complete rows, and values are missing; leave out the rows that lack "
            f"values, or {instead}."
        )
    if any(np.any(source.unpacked(part)[:, -1] != 1) for part in range(source.n_blocks)):
        raise OptionError(
            f"{what} draws one response a row, and rows have a sample_weight; repeat the rows, or "
            f"{instead}."
        )
    encoder, layout = fit.reader.encoder, fit.reader.layout
    for name, part in layout.responses:
        if name not in encoder.variables(layout.parts[part].kind):
            raise OptionError(
                f"{what} draws columns, and the response {name!r} is computed from others; make "
                "it a column of the data."
            )

    def draw(rng: np.random.Generator) -> Source:
        frame = fit.simulate(fit.n_rows, rng, data=data)
        store = MemoryStore()
        for rows in fit.reader.rows(frame, response=True, regressors=True):
            for packed in pack(layout, rows, np.ones(len(rows))):
                store.append(packed)
        return Source(store, fit.n_rows, float(fit.n_rows))

    return draw
