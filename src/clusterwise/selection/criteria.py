"""What candidates are compared by, and what each asks of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma
from typing import Any, NamedTuple

import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.engines.engine import AbstractEngine
from clusterwise.engines.optimisers import EM, SVI, VI, MemoizedVI
from clusterwise.engines.registry import resolve_engine
from clusterwise.engines.samplers import AbstractSampler, Gibbs
from clusterwise.fit import Fit
from clusterwise.weights.specification import resolve_weights

LEVEL = 0.05
"""A p-value at or below which a candidate is rejected."""

POINT = EM(n_init=1, tol=1e-6, max_iter=1000)
"""Fewer ordinary starts, since candidates have those of splits, and a tolerance that is still far
below any difference of criteria that means anything."""


@dataclass(frozen=True)
class Criterion:
    """One criterion.

    Parameters
    ----------
    name
        Its name, and its column in the table.
    title
        What it is called in sentences.
    smaller
        Whether smaller is better; else larger is.
    engine
        The engine to fit with where the user names none.
    engines
        The engines whose fits have it; none given for all.
    pointwise
        Whether it is a sum over rows, hence has a standard error.
    test
        Whether it is the p-value of a candidate against the next larger one: best is the first
        that is not rejected.
    """

    name: str
    title: str
    smaller: bool
    engine: AbstractEngine
    engines: tuple[type[AbstractEngine], ...] = (AbstractEngine,)
    pointwise: bool = False
    test: bool = False

    def best(self, values: np.ndarray) -> int:
        """Number of the value that it prefers, of candidates from the smallest on."""
        if self.test:
            return int(np.flatnonzero(~(values <= LEVEL))[0])
        return int(np.nanargmax(self.gains(values)))

    def gains(self, values: np.ndarray) -> np.ndarray:
        """Values so that larger is better, on their own scale."""
        return -values if self.smaller else values

    @property
    def per_log_density(self) -> float:
        """What a unit of log density is on its scale."""
        return 2.0 if self.smaller else 1.0


CRITERIA = {
    criterion.name: criterion
    for criterion in (
        Criterion("bic", "BIC", True, POINT),
        Criterion("icl", "ICL", True, POINT),
        Criterion("aic", "AIC", True, POINT),
        Criterion("cv", "the held-out log score", False, POINT, pointwise=True),
        Criterion("loo", "PSIS-LOO", False, Gibbs(), (AbstractSampler,), pointwise=True),
        Criterion("lrt", "the likelihood-ratio test", False, POINT, (EM,), test=True),
        Criterion("elbo", "the evidence lower bound", False, VI(n_init=8), (VI, SVI, MemoizedVI)),
    )
}


def resolve_criteria(
    criterion: str | Sequence[str], engine: str | AbstractEngine | None
) -> tuple[list[Criterion], AbstractEngine]:
    """The criteria to report, the deciding one first, and the engine to fit with.

    Raises
    ------
    OptionError
        Where a criterion is unknown, or the engine's fits do not have it.
    """
    names = [criterion] if isinstance(criterion, str) else list(criterion)
    for name in names:
        if name not in CRITERIA:
            known = ", ".join(map(repr, CRITERIA))
            raise OptionError(f"criterion={name!r} is not known; use one of {known}.")
    if not names:
        raise OptionError("criterion is empty; name at least one, such as 'bic'.")
    asked = [CRITERIA[name] for name in dict.fromkeys(names)]
    if engine is None:
        # The most demanding one's, whose fits have the others too.
        chosen = next((c.engine for c in asked if c.engines != (AbstractEngine,)), asked[0].engine)
    else:
        chosen = resolve_engine(engine)
    for one in asked:
        if not isinstance(chosen, one.engines):
            raise OptionError(
                f"criterion={one.name!r} needs engine={one.engine.name!r} or another of its kind, "
                f"not {chosen.name!r}; leave engine out, or choose another criterion."
            )
    plain = [c for c in CRITERIA.values() if not (c.pointwise or c.test)]
    free = [c for c in plain if isinstance(chosen, c.engines)]
    return [*asked, *(c for c in free if c not in asked)], chosen


class RowScores(NamedTuple):
    """Log scores of rows or whole groups, and their weights."""

    values: np.ndarray
    weights: np.ndarray

    @property
    def total(self) -> float:
        """Their sum."""
        return float(self.weights @ self.values)

    @property
    def standard_error(self) -> float:
        """Of the sum, by how much rows differ (Vehtari, Gelman and Gabry 2017)."""
        n = self.weights.sum()
        gap = self.values - self.total / n
        return float(np.sqrt(n / max(n - 1, 1) * (self.weights @ np.square(gap))))

    def minus(self, other: RowScores) -> RowScores:
        """Differences, row by row."""
        return self._replace(values=self.values - other.values)


def plain_criteria(fit: Fit) -> dict[str, float]:
    """Criteria that a fit has without more work."""
    aic = 2 * fit.n_parameters - 2 * fit.log_likelihood
    return {"bic": fit.bic, "icl": fit.icl, "aic": aic}


def evidence(fit: Fit) -> float:
    """The evidence lower bound of all equal modes.

    The bound is that of one way to number the clusters. Where clusters are exchangeable the
    posterior has as many equal modes as there are ways, so that the log of that number is added
    (Bishop 2006, section 10.2.4).
    """
    k = fit.n_components
    prior = resolve_weights(fit.model.weights, k).prior(k, flat=False)
    if prior.has_order:
        return fit.objective
    kinds = fit.reader.layout.component_kinds(k)
    sizes = [k] if kinds is None else np.bincount(kinds)
    return fit.objective + sum(lgamma(size + 1) for size in sizes)


def draws_scores(fit: Fit) -> tuple[RowScores, float]:
    """Leave-one-out log scores of rows by Pareto-smoothed importance sampling.

    Returns
    -------
    RowScores, float
        The scores, and the largest Pareto k, above 0.7 of which they are not to be trusted.
    """
    from arviz_stats.loo.loo import loo

    if fit.model.sample_weight is not None:
        raise OptionError(
            "criterion='loo' leaves rows out one by one, which rows with a sample_weight are not; "
            "use criterion='cv'."
        )
    tree = fit.posterior
    if "log_likelihood" not in tree.children:
        raise OptionError(
            "criterion='loo' needs the log likelihood of every row, which this fit goes without "
            "since it has too many rows; use criterion='cv'."
        )
    found: Any = loo(tree, pointwise=True)
    values = np.asarray(found.elpd_i).ravel()
    return RowScores(values, np.ones_like(values)), float(np.max(np.asarray(found.pareto_k)))
