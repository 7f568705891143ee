"""What a fit keeps: plain numbers in standard units, and what is needed to read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from clusterwise.assembly.assemble import Assembled
from clusterwise.assembly.build import make_block
from clusterwise.assembly.layout import Layout, RawDesign
from clusterwise.assembly.prepare import Prepared
from clusterwise.assembly.units import Values, in_data_units, spread_in_data_units
from clusterwise.core.arrays import constant
from clusterwise.core.product import Product
from clusterwise.core.product_posterior import ProductParameters
from clusterwise.core.random import random_key
from clusterwise.core.rows import BLOCK_ROWS, Rows, pack_rows
from clusterwise.core.runtime import Program, double_precision
from clusterwise.engines.averages import with_average_weights
from clusterwise.engines.problem import Outcome, Problem
from clusterwise.engines.relabelling import by_weight, permute, reorder
from clusterwise.frames.encoder import Encoder
from clusterwise.inference.boundary import boundary_notes
from clusterwise.inference.identifiability import data_notes
from clusterwise.inference.mixture import ScoredMixture
from clusterwise.sources.source import Source
from clusterwise.sources.store import MemoryStore

if TYPE_CHECKING:
    import xarray as xr

VARIATIONAL_DRAWS = 1000
KEPT_ROWS = 262_144
_EMPTY_ROWS = 1.0


@dataclass(frozen=True)
class FitRecord:
    """Numbers of a fit, its components in order of weight.

    `draws`, `log_density` and `sample_stats` lead with (chain, draw). A variational fit has a
    `posterior`, in the engine's own order, of which draws are made when they are asked for.
    `permutation[..., l]` is the sampler's label of component l. `rows` (m, columns + 1) are the
    standardised rows with their weights where there is a posterior: all of them up to `KEPT_ROWS`
    (`rows_are_all`), else a sample; `row_order` (n,) are the data's numbers of all rows where these
    are sorted by `n_groups` groups. `optima`, leading with (optimum,), are the modes that
    `restarts` tells of; None in fits saved by version 0.1.
    """

    engine: str
    encoder: Encoder
    design: RawDesign
    layout: Layout
    parameters: ProductParameters
    moments: tuple[Any, ...]
    draws: ProductParameters | None
    log_density: np.ndarray | None
    sample_stats: dict[str, np.ndarray]
    permutation: np.ndarray | None
    rows: np.ndarray | None
    row_order: np.ndarray | None
    posterior: Any
    order: np.ndarray
    n_rows: int
    n_groups: int | None
    total_weight: float
    n_parameters: int
    log_likelihood: float
    objective: float
    entropy: float
    converged: bool
    n_iter: int
    history: np.ndarray
    restarts: list[dict[str, Any]]
    optima: ProductParameters | None
    notes: tuple[str, ...]
    seconds: float

    @property
    def n_components(self) -> int:
        """Number of components."""
        return self.order.size

    @property
    def n_units(self) -> float:
        """How many have a cluster of their own: rows with their weights, or groups."""
        return self.total_weight if self.n_groups is None else self.n_groups

    @property
    def rows_are_all(self) -> bool:
        """Whether `rows` are all that were fitted."""
        return self.rows is not None and len(self.rows) == self.n_rows

    @property
    def block(self) -> Product:
        """The model over the layout's columns."""
        return make_block(self.layout)

    def scored(self) -> ScoredMixture:
        """Scores under the engine's own expectations: a point, or those of q."""
        return ScoredMixture.at(self.block, self.moments)

    @double_precision
    def with_draws(self) -> FitRecord:
        """The record with draws of its posterior, where it has one."""
        if self.draws is not None or self.posterior is None:
            return self
        keys = jax.random.split(random_key(self.n_rows), VARIATIONAL_DRAWS)
        draws = jax.tree.map(lambda leaf: np.asarray(leaf)[None], _sample(self.posterior, keys))
        if self.block.gated:
            assert self.rows is not None
            draws = with_average_weights(self.block, _source(self.rows), draws)
        return replace(self, draws=reorder(draws, self.order, axis=2))

    def tree(self) -> xr.DataTree:
        """The draws in ArviZ's layout."""
        from clusterwise.inference.posterior import posterior_tree

        why = f"the fit keeps a sample of its {self.n_rows} rows; score rows with score_samples"
        if self.rows is None:
            why = "rows are not saved with a variational fit"
        return posterior_tree(
            self.layout,
            self.block,
            self.draws,
            engine=self.engine,
            log_density=self.log_density,
            sample_stats=self.sample_stats,
            permutation=self.permutation,
            rows=self.rows if self.rows_are_all else None,
            row_order=self.row_order,
            why_no_rows=why,
        )

    @double_precision
    def predictive(self) -> tuple[Any, ...] | None:
        """A variational posterior's distribution of new rows, in standard units."""
        # Of several rows at once the posterior has no closed form.
        if self.posterior is None or not self.block.exact or self.n_groups is not None:
            return None
        return reorder(_predictive(self.posterior), self.order, axis=0)

    @double_precision
    def standard_deviations(self, layout: Layout | None = None) -> Values | None:
        """Posterior standard deviations where the engine gives any.

        Parameters
        ----------
        layout
            In whose units; the data's by default.
        """
        units = self.layout if layout is None else layout
        if self.posterior is not None:
            spread = reorder(_spread(self.posterior), self.order, axis=0)
            found = spread_in_data_units(units, spread)
            if not self.block.gated:
                return found
            # Averages of weights over rows have no closed form.
            drawn = in_data_units(units, self.with_draws().draws)
            return found._replace(weights=_spread_of_draws(drawn.weights))
        if self.draws is None:
            return None
        drawn = in_data_units(units, self.draws)
        return jax.tree.map(_spread_of_draws, drawn)

    @double_precision
    def relabelled(self, permutation: np.ndarray) -> FitRecord:
        """The record with draws renumbered, and the point estimates that follow from them.

        Parameters
        ----------
        permutation
            (chain, draw, k): the present number of each new component.
        """
        assert self.draws is not None and self.permutation is not None and self.rows is not None
        draws = permute(self.draws, permutation)
        mean = jax.tree.map(np.asarray, draws.mean_of_draws())
        point = ScoredMixture.from_draws(self.block, jax.tree.map(lambda a: a[None], mean))
        rows, weight = self.rows[:, :-1], self.rows[:, -1]
        blocks = range(len(self.layout.parts) + 1)
        resp = point.responsibilities(rows, blocks)
        log_resp = np.log(np.maximum(resp, np.finfo(float).tiny))
        scales = self.layout.log_scales(np.isnan(rows))
        filled = np.nan_to_num(rows, nan=0.0)
        once = np.asarray(self.block.once(Rows(constant(filled.T), constant(weight))))
        log_density = once @ point.log_density(rows, blocks) - weight @ scales
        return replace(
            self,
            draws=draws,
            permutation=np.take_along_axis(self.permutation, permutation, axis=2),
            parameters=mean,
            moments=mean.moments(),
            log_likelihood=float(log_density),
            entropy=float(-(once @ (resp * log_resp).sum(axis=1))),
        )


def _spread_of_draws(leaf: np.ndarray) -> np.ndarray:
    # What is known varies by the rounding of its average alone.
    return np.where(np.ptp(leaf, axis=(0, 1)) > 0, leaf.std(axis=(0, 1)), 0.0)


@Program
def _spread(posterior: Any) -> Any:
    return posterior.spread()


@Program
def _predictive(posterior: Any) -> Any:
    return posterior.predictive()


@Program
def _sample(posterior: Any, keys: jax.Array) -> Any:
    return jax.vmap(posterior.sample)(keys)


def make_record(engine: str, assembled: Assembled, outcome: Outcome, seconds: float) -> FitRecord:
    """Collect what is kept of an engine's outcome."""
    prepared = assembled.prepared
    outcome = _with_weights(assembled.problem, outcome)
    weights = np.asarray(outcome.parameters.parts[0].log_weights)
    kinds = assembled.problem.prior.component_kinds
    order = by_weight(weights, kinds)
    total = prepared.source.total_weight
    shift = prepared.log_scale
    draws = outcome.draws
    widest = max(len(part.regressors) for part in prepared.layout.parts)
    return FitRecord(
        engine=engine,
        encoder=assembled.encoder,
        design=assembled.design,
        layout=prepared.layout,
        parameters=reorder(outcome.parameters, order, axis=0),
        moments=reorder(outcome.moments, order, axis=0),
        draws=None if draws is None else reorder(draws.parameters, order, axis=2),
        log_density=None if draws is None else draws.log_density - shift,
        sample_stats={} if draws is None else draws.stats,
        permutation=None if draws is None else draws.permutation[..., order],
        rows=_rows(prepared) if draws is not None or outcome.draws_from_posterior else None,
        posterior=outcome.posterior if outcome.draws_from_posterior else None,
        order=order,
        row_order=None if prepared.grouping is None else prepared.grouping.order,
        n_rows=prepared.source.n_rows,
        n_groups=None if prepared.grouping is None else prepared.grouping.n_groups,
        total_weight=total,
        n_parameters=assembled.n_parameters,
        log_likelihood=outcome.log_likelihood - shift,
        objective=outcome.objective - shift,
        entropy=outcome.entropy,
        converged=outcome.converged,
        n_iter=outcome.n_iter,
        history=outcome.history - shift,
        restarts=_restarts(outcome, shift),
        optima=_optima(outcome, kinds),
        notes=(
            *prepared.notes,
            *data_notes(assembled),
            *_notes(outcome, np.exp(weights[order]) * prepared.n_units, widest),
            *boundary_notes(assembled, outcome, order),
        ),
        seconds=seconds,
    )


@double_precision
def _with_weights(problem: Problem, outcome: Outcome) -> Outcome:
    """The outcome with the average weights of the rows, where weights depend on the row."""
    if not problem.block.gated:
        return outcome
    averaged = partial(with_average_weights, problem.block, problem.source)
    optima = [own._replace(parameters=averaged(own.parameters)) for own in outcome.optima]
    outcome = outcome._replace(optima=optima, parameters=averaged(outcome.parameters))
    if outcome.draws is None:
        return outcome
    draws = outcome.draws._replace(parameters=averaged(outcome.draws.parameters))
    mean = jax.tree.map(np.asarray, draws.parameters.mean_of_draws())
    return outcome._replace(draws=draws, parameters=mean)


def _source(rows: np.ndarray) -> Source:
    """Rows (m, columns + 1) with their weights as a source."""
    store = MemoryStore()
    for first in range(0, len(rows), BLOCK_ROWS):
        part = rows[first : first + BLOCK_ROWS]
        store.append(pack_rows(part[:, :-1], part[:, -1]))
    return Source(store, len(rows), float(rows[:, -1].sum()))


def _rows(prepared: Prepared) -> np.ndarray:
    source = prepared.source if prepared.source.n_rows <= KEPT_ROWS else prepared.sample
    return np.concatenate([source.unpacked(part) for part in range(source.n_blocks)])


def _restarts(outcome: Outcome, shift: float) -> list[dict[str, Any]]:
    return [
        {
            "log_likelihood": optimum.log_likelihood - shift,
            "objective": optimum.objective - shift,
            "reached": optimum.reached,
            "starts": outcome.n_starts,
            "recipes": ", ".join(optimum.recipes),
            "degenerate": bool(optimum.degenerate),
            "reason": "; ".join(optimum.degenerate),
            "chosen": optimum.chosen,
            "finished": optimum.finished,
        }
        for optimum in outcome.optima
    ]


def _optima(outcome: Outcome, kinds: np.ndarray | None) -> ProductParameters:
    modes = [optimum.parameters for optimum in outcome.optima]
    ordered = [reorder(mode, by_weight(mode.parts[0].log_weights, kinds), axis=0) for mode in modes]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *ordered)


def _notes(outcome: Outcome, rows: np.ndarray, n_coefficients: int) -> list[str]:
    notes = []
    empty = np.flatnonzero(rows < _EMPTY_ROWS)
    if empty.size:
        named = ", ".join(map(str, empty))
        notes.append(
            f"Empty components (fewer than one row): {named}. They stay at their prior; fewer "
            "clusters than asked for are supported."
        )
    few = np.flatnonzero((rows >= _EMPTY_ROWS) & (rows < n_coefficients))
    if few.size:
        named = ", ".join(f"{k} ({rows[k]:.1f})" for k in few)
        notes.append(
            f"Components with fewer rows than coefficients: {named}. They describe outliers "
            "rather than clusters."
        )
    chosen = next(o for o in outcome.optima if o.chosen)
    if chosen.degenerate:
        notes.append(
            f"The chosen optimum is degenerate: {'; '.join(chosen.degenerate)}. Use "
            "prior='default' or fewer components."
        )
    better = [o for o in outcome.optima if o.degenerate and o.objective > chosen.objective]
    if better:
        notes.append(
            f"Optima with a higher objective that are degenerate and were not chosen: "
            f"{len(better)}; see restarts."
        )
    return notes
