"""What the draws of a fit say beyond their averages: diagnostics, labels, modes, partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from clusterwise.assembly.units import Values, in_data_units
from clusterwise.core.groups import (
    first_rows,
    group_sizes,
    rows_of_groups,
    some_groups,
    whole_pieces,
)
from clusterwise.core.product import Product
from clusterwise.inference.confidence import Confidence, confidence
from clusterwise.inference.diagnostics import diagnose, energy_fractions
from clusterwise.inference.mixture import ScoredMixture, log_sum_exp
from clusterwise.inference.modes import Mode, modes
from clusterwise.inference.partition import CredibleBall, credible_ball, point_partition
from clusterwise.inference.reading import RowReader
from clusterwise.inference.relabel import relabel
from clusterwise.inference.similarity import label_counts, occupied_clusters
from clusterwise.inference.verdict import Verdict, verdict

_ROWS = 500
_DRAWS = 500
_MODE_DRAWS = 2000
_PAIRS = 5
_EMPTY = 0.5
_SEED = 0
_KEPT_NUMBERS = 2e7
_EDGE = ("horizontal", "upper", "lower")


class Partition(NamedTuple):
    """One partition of rows that stands for all draws, and how sure it is.

    Attributes
    ----------
    labels
        (n,) clusters from 0, the largest first; not the numbers of the components.
    expected_loss
        Average loss over the draws: bits of variation of information, or the share of pairs of
        rows on which they disagree for Binder's loss.
    loss
        "vi" or "binder".
    ball
        The draws within the credible radius: its horizontal, upper and lower bounds are partitions.
    n_clusters
        Posterior probability of each number of clusters that have rows.
    """

    labels: np.ndarray
    expected_loss: float
    loss: str
    ball: CredibleBall
    n_clusters: pd.Series

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Partition:
        """The same of rows in another order, or of more of them: `function` of each partition."""
        edge = {name: function(getattr(self.ball, name)) for name in _EDGE}
        ball = self.ball._replace(**edge)
        return self._replace(labels=function(self.labels), ball=ball)


class DrawLabels(NamedTuple):
    """How sure the numbers of the components that have rows are in the draws as they are.

    `kept` are those components; `switched` is the share of draws that an iterative relabelling
    would number otherwise.
    """

    sure: Confidence
    kept: np.ndarray
    switched: float


@dataclass(frozen=True)
class SampledMixture:
    """Draws of a mixture's parameters in standard units, and rows to look at them by.

    `parameters` and `log_density` lead with (chain, draw); `rows` (m, columns) are standardised.
    Only components of the same of `groups` (k,) may change their numbers.
    """

    reader: RowReader
    block: Product
    parameters: Any
    log_density: np.ndarray | None
    rows: np.ndarray
    groups: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Chains, and draws of each."""
        chains, draws = np.shape(jax.tree.leaves(self.parameters)[0])[:2]
        return chains, draws

    def thinned(self, most: int) -> tuple[ScoredMixture, np.ndarray]:
        """At most so many draws, evenly spread over the chains, and their places."""
        total = int(np.prod(self.shape))
        chosen = np.linspace(0, total - 1, min(total, most)).round().astype(int)
        flat = jax.tree.map(lambda a: np.reshape(a, (total, *np.shape(a)[2:])), self.parameters)
        some = jax.tree.map(lambda leaf: leaf[chosen], flat)
        return ScoredMixture.from_draws(self.block, some), chosen

    def memberships(self, mixture: ScoredMixture, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Probabilities (draws, b, k) of the components for successive rows."""
        parts = self.reader.blocks(response=True)
        for piece in whole_pieces(self.block.groups, rows, mixture.rows_at_a_time()):
            scores = mixture.scores(rows[piece], parts)
            yield np.exp(scores - log_sum_exp(scores)[..., None]).swapaxes(0, 1)

    def labels(self, rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
        """Draws (draws, n) of the component of each row."""
        mixture, _ = self.thinned(most)
        found = []
        for probabilities in self.memberships(mixture, rows):
            uniform = rng.random(probabilities.shape[:2])
            below = np.cumsum(probabilities, axis=2)[..., :-1] <= uniform[..., None]
            found.append(below.sum(axis=2, dtype=np.int32))
        drawn = np.concatenate(found, axis=1)
        first = first_rows(self.block.groups, rows)
        return np.repeat(drawn[:, first], group_sizes(first, len(rows)), axis=1)

    def permutation(self, method: str) -> np.ndarray:
        """Relabelling (chain, draw, k) of the draws, from the components' present numbers."""
        some = some_groups(self.block.groups, self.rows, _ROWS)
        mixture, _ = self.thinned(int(np.prod(self.shape)))
        # Averaged over the draws as they are, so that components keep their numbers.
        reference = mixture.responsibilities(some, self.reader.blocks(response=True))
        numbers = some.shape[0] * np.prod(self.shape) * reference.shape[1]
        kept = [*self.memberships(mixture, some)] if numbers <= _KEPT_NUMBERS else None
        found = relabel(
            lambda: kept or self.memberships(mixture, some),
            reference,
            method=method,
            groups=self.groups,
        )
        return found.permutation.reshape(*self.shape, -1)

    @cached_property
    def labels_of_draws(self) -> DrawLabels:
        """How sure the draws' numbers of components are."""
        some = some_groups(self.block.groups, self.rows, _ROWS)
        mixture, _ = self.thinned(_DRAWS)
        reference = mixture.responsibilities(some, self.reader.blocks(response=True))
        blocks = [*self.memberships(mixture, some)]
        found = relabel(lambda: blocks, reference, method="ecr", groups=self.groups)
        kept = np.flatnonzero(found.average.sum(axis=0) > _EMPTY)
        sure = confidence(found.match[:, kept][:, :, kept], self.groups[kept])
        as_it_is = found.permutation[:, kept] == kept
        right = sure.draws * as_it_is.all(axis=1)
        own = sure._replace(
            overall=float(right.mean()), clusters=sure.clusters * as_it_is.mean(axis=0), draws=right
        )
        return DrawLabels(own, kept, float(1 - as_it_is.all(axis=1).mean()))

    def label_confidence(self) -> pd.Series:
        """Probability that each component is numbered right in a draw; "overall" for all."""
        sure, kept, _ = self.labels_of_draws
        numbers = [*kept.tolist(), "overall"]
        values = [*sure.clusters, sure.overall]
        return pd.Series(values, pd.Index(numbers, name="component"), name="confidence")

    def invariants(self) -> dict[str, np.ndarray]:
        """Quantities (chain, draw, ...) that no renumbering of the components changes."""
        rng = np.random.default_rng(_SEED)
        found = {} if self.log_density is None else {"log density": self.log_density}
        groups = self.block.groups
        n = len(first_rows(groups, self.rows))
        pairs = rng.choice(n, (_PAIRS, 2), replace=n < 2 * _PAIRS)
        chosen, begins = rows_of_groups(groups, self.rows, pairs.ravel())
        mixture, _ = self.thinned(int(np.prod(self.shape)))
        scores = mixture.scores(self.rows[chosen], self.reader.blocks(response=True))[begins]
        density = log_sum_exp(scores)
        resp = np.exp(scores - density[..., None]).swapaxes(0, 1)
        resp = resp.reshape(*self.shape, _PAIRS, 2, -1)
        found["rows together"] = (resp[..., 0, :] * resp[..., 1, :]).sum(axis=-1)
        found["log density of row"] = density[::2].T.reshape(*self.shape, _PAIRS)
        return found

    def quantities(self) -> tuple[dict[str, np.ndarray], dict[str, list[Any]]]:
        """Parameters (chain, draw, k, ...) by name, and names along their axes after the draws."""
        values = in_data_units(self.reader.layout, self.parameters)
        k = range(values.weights.shape[-1])
        components: dict[str, np.ndarray] = {"weight": values.weights}
        coords: dict[str, list[Any]] = {"weight": [k]}
        several = len(self.reader.layout.responses) > 1
        gate = self.reader.layout.gate
        if gate is not None and values.gates is not None:
            # Not those of a component that has none, being the reference or the last stick.
            free = np.flatnonzero(np.all(np.ptp(values.gates, axis=(0, 1)) > 0, axis=-1))
            kept = list(gate.kept_terms)
            components["gate"] = values.gates[:, :, free][..., kept]
            coords["gate"] = [free.tolist(), [gate.terms[j] for j in kept]]
        for part, own in zip(self.reader.layout.parts, values.parts, strict=True):
            if part.is_response:
                prefix = f"{part.title}: " if several else ""
                kept, labels = list(part.kept_terms), part.predictors
                for m, label in enumerate(labels):
                    what = f"{prefix if len(labels) == 1 else f'{label}: '}coefficient"
                    components[what] = own.coefficients[..., kept, m]
                    coords[what] = [k, [part.terms[j] for j in kept]]
                for name, value in own.dispersion.items():
                    components[f"{prefix}{name}"] = value
                    coords[f"{prefix}{name}"] = [k]
            elif own.levels is not None:
                name, levels = part.level_names
                components[f"probability of {name}"] = own.levels
                coords[f"probability of {name}"] = [k, levels]
            elif own.single is not None:
                components |= {f"{what} of {part.title}": v for what, v in own.single.items()}
                coords |= {f"{what} of {part.title}": [k] for what in own.single}
            else:
                names = [part.names[j] for j in part.kept_names]
                components[f"mean of {', '.join(names)}"] = own.coefficients[..., 0, :]
                coords[f"mean of {', '.join(names)}"] = [k, names]
        return components, coords

    def _population(self, values: Values) -> dict[str, np.ndarray]:
        """Distributions that pooled coefficients come from, without what is known of them."""
        found = {}
        for part, own in zip(self.reader.layout.parts, values.parts, strict=True):
            for what, drawn in (("mean", own.pooled_mean), ("sd", own.pooled_sd)):
                if drawn is None:
                    continue
                for j, term in enumerate(part.terms):
                    for m, label in enumerate(part.predictors):
                        one = drawn[..., j, m]
                        if np.ptp(one) > 0:
                            found[f"{what} of {label}: {term}"] = one
        return found

    def diagnostics(self) -> pd.DataFrame:
        """R-hat, effective sample sizes and Monte Carlo errors; see `diagnose`."""
        components, coords = self.quantities()
        values = in_data_units(self.reader.layout, self.parameters)
        invariants = self.invariants() | self._population(values)
        if not np.all(values.concentration == values.concentration.flat[0]):
            invariants["concentration"] = values.concentration
        return diagnose(components, invariants, coords=coords)

    @cached_property
    def modes(self) -> list[Mode]:
        """Modes that the draws fall into, by the components that have rows."""
        kept = self.labels_of_draws.kept
        values = in_data_units(self.reader.layout, self.parameters)
        chains, draws = self.shape
        step = max(1, chains * draws // _MODE_DRAWS)
        features = [np.log(values.weights)[..., None]]
        if values.gates is not None:
            features.append(np.nan_to_num(values.gates))
        for own in values.parts:
            features.append(own.coefficients.reshape(*own.coefficients.shape[:3], -1))
            if own.levels is not None:
                features.append(own.levels)
            elif own.single is not None:
                features += [value[..., None] for value in own.single.values()]
            elif own.covariance is not None:
                features.append(np.log(np.diagonal(own.covariance, axis1=-2, axis2=-1)))
            else:
                features += [np.log(value)[..., None] for value in own.dispersion.values()]
        joined = np.concatenate(features, axis=-1)[:, ::step][:, :, kept]
        log_density = self.log_density
        assert log_density is not None
        return modes(
            joined.reshape(-1, *joined.shape[2:]),
            log_density[:, ::step].ravel(),
            np.repeat(np.arange(chains), joined.shape[1]),
        )

    def verdict(self, table: pd.DataFrame, stats: dict[str, np.ndarray]) -> Verdict:
        """What to make of the draws, in words."""
        sure, kept, switched = self.labels_of_draws
        in_rows = table["component"].isna() | table["component"].isin(kept.tolist())
        shown = pd.DataFrame(table[in_rows])
        shown.attrs.update(table.attrs)
        # Numbers of components in the sentences are places in what it is given.
        whole = np.ones(jax.tree.leaves(self.parameters)[0].shape[2])
        whole[kept] = sure.clusters
        return verdict(
            shown,
            confidence=sure._replace(clusters=whole),
            modes=self.modes,
            switched=switched,
            divergences=int(np.sum(stats.get("diverging", 0))),
            deepest_trees=int(np.sum(stats.get("reached_max_treedepth", 0))),
            energy_fractions=energy_fractions(stats["energy"]) if "energy" in stats else (),
        )

    def partition(
        self, rows: np.ndarray, loss: str, level: float, most: int, rng: np.random.Generator
    ) -> Partition:
        """The partition of least expected loss over draws of all rows' labels.

        Rows that share a cluster are one: the loss counts groups.
        """
        first = first_rows(self.block.groups, rows)
        drawn = self.labels(rows, most, rng)[:, first]
        best = point_partition(drawn, loss=loss)
        k = np.shape(jax.tree.leaves(self.parameters)[0])[2]
        found = Partition(
            best.labels,
            best.expected_loss,
            loss,
            credible_ball(drawn, best.labels, level=level, loss=loss),
            occupied_clusters(label_counts(drawn, k=k)),
        )
        sizes = group_sizes(first, len(rows))
        return found.map(lambda labels: np.repeat(labels, sizes, axis=-1))
