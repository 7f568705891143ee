"""K clusters against more: the parametric bootstrap of the likelihood ratio."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clusterwise.assembly.build import over_rows
from clusterwise.bootstrap import simulator
from clusterwise.core.errors import OptionError
from clusterwise.core.random import RandomState, as_generator
from clusterwise.core.runtime import double_precision, n_cores
from clusterwise.engines.ascent import ModeProjection
from clusterwise.engines.engine import N_INIT, AbstractEngine
from clusterwise.engines.optimisers import EM
from clusterwise.engines.problem import Optimum, Problem
from clusterwise.engines.registry import resolve_engine
from clusterwise.engines.search import search, silent
from clusterwise.engines.start import Start
from clusterwise.fit import Fit
from clusterwise.inference.mixture import ScoredMixture
from clusterwise.inference.progress import progress_reporter
from clusterwise.model import Model, infer
from clusterwise.record import FitRecord
from clusterwise.selection.criteria import POINT
from clusterwise.selection.splitting import own_starts, splits
from clusterwise.sources.source import Source
from clusterwise.weights.specification import resolve_weights


@dataclass(frozen=True, eq=False)
class LikelihoodRatioTest:
    """A likelihood ratio and what it is where the null hypothesis holds.

    Attributes
    ----------
    null, alternative
        The fits with fewer and with more clusters.
    statistic
        Twice the difference of their log likelihoods, zero where it is negative.
    replicates
        (n_replicates,): the same of data that were simulated from `null`.
    notes
        What is awkward about them.
    """

    null: Fit
    alternative: Fit
    statistic: float
    replicates: np.ndarray
    notes: tuple[str, ...]

    @property
    def n_components(self) -> tuple[int, int]:
        """Clusters under the null hypothesis and under the alternative."""
        return self.null.n_components, self.alternative.n_components

    @property
    def n_as_large(self) -> int:
        """Replicates whose statistic is at least that of the data."""
        return int((self.replicates >= self.statistic).sum())

    @property
    def p_value(self) -> float:
        """The rank of the data's statistic among all: (r + 1) / (B + 1), hence never zero."""
        return (self.n_as_large + 1) / (self.replicates.size + 1)

    @property
    def p_value_error(self) -> float:
        """Standard error of the p-value, due to the number of replicates."""
        return float(np.sqrt(self.p_value * (1 - self.p_value) / (self.replicates.size + 1)))

    def __str__(self) -> str:
        few, many = self.n_components
        middle, high = np.quantile(self.replicates, [0.5, 0.95])
        lines = [
            f"Likelihood ratio of {few} against {many} clusters, parametric bootstrap",
            f"statistic {self.statistic:.4f}: log likelihoods {self.null.log_likelihood:.4f} and "
            f"{self.alternative.log_likelihood:.4f}",
            f"p-value {self.p_value:.4g}, Monte Carlo error {self.p_value_error:.2g}: "
            f"{self.n_as_large} of {self.replicates.size} replicates are as large",
            f"replicates: median {middle:.4f}, 95% quantile {high:.4f}",
        ]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    __repr__ = __str__


def likelihood_ratio_test(
    model: Model,
    data: Any,
    n_components: tuple[int, int] = (1, 2),
    n_replicates: int = 99,
    *,
    engine: str | AbstractEngine | None = None,
    random_state: RandomState = None,
    progress: bool | Callable[[str, int, int], None] = False,
) -> LikelihoodRatioTest:
    """Test a number of clusters against a larger one.

    The likelihood ratio has no chi-squared distribution here, since clusters that are too many
    are not identified. So it is compared with those of data sets that are simulated from the fit
    of fewer clusters, with regressors, offsets, trials and groups as they are. Each is fitted
    from the parameters it was simulated from, and with more clusters from splits of that fit and
    some other starts; the data are fitted with more clusters from starts of the same kinds, as
    many.

    Parameters
    ----------
    model
        What both have in common.
    data
        As for `Model.fit`; held in memory.
    n_components
        Numbers of clusters, that of the null hypothesis first.
    n_replicates
        Data sets to simulate: B, of which r reach the data's statistic, give the p-value
        (r + 1) / (B + 1).
    engine
        "em" or an `EM`, whose starts are in addition to those above.
    random_state
        Seed or generator; the same seed gives the same answer, however many cores there are.
    progress
        As for `Model.fit`.

    Returns
    -------
    LikelihoodRatioTest

    Raises
    ------
    OptionError
        Where the numbers, engine or weights do not go with a test, or rows that are drawn could
        not be like those of the data: with missing values or a sample weight, or a response that
        is computed.
    DataError, FormulaError
        As for `Model.fit`.

    References
    ----------
    McLachlan (1987), Applied Statistics 36; Feng and McCulloch (1996), JRSS B 58.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-1, 1, 80)
    >>> y = np.where(rng.random(80) < 0.4, 3 * x, 1 - x) + 0.2 * rng.normal(size=80)
    >>> test = cw.likelihood_ratio_test(
    ...     cw.Model("y ~ x"), {"x": x, "y": y}, (1, 2), n_replicates=19, random_state=0
    ... )
    >>> test.p_value
    0.05
    """
    few, many = _numbers(n_components)
    _check_replicates(n_replicates)
    chosen = _resolve(engine)
    if resolve_weights(model.weights, few).truncated:
        raise OptionError(
            f"weights={model.weights!r} makes n_components a truncation, not a number of clusters; "
            "test with weights='dirichlet'."
        )
    of_null, of_alternative, *each = as_generator(random_state).spawn(2 + int(n_replicates))
    smaller, larger = (replace(model, n_components=k) for k in (few, many))
    thorough = replace(chosen, n_init=max(chosen.n_init, N_INIT))
    record, problem, _ = infer(smaller, data, thorough, of_null)
    null = Fit(smaller, record)
    instead = "compare numbers of clusters by cw.select"
    draw = simulator(null, data, problem.source, "likelihood_ratio_test", instead)
    found, wider, _ = infer(
        larger, data, chosen, of_alternative, starts=_more(record.scored(), of_alternative)
    )
    with progress_reporter(progress) as report:
        done = 0

        def run(rng: np.random.Generator) -> tuple[float, bool]:
            nonlocal done
            result = _replicate(record, problem, wider, draw(rng), chosen, rng)
            done += 1
            report("replicates", done, len(each))
            return result

        # Starts of one replicate are on the pool of all cores, whose threads must not wait for it.
        with ThreadPoolExecutor(n_cores(), thread_name_prefix="clusterwise-test") as pool:
            results = list(pool.map(double_precision(run), each))
    statistics, degenerate = map(np.array, zip(*results, strict=True))
    return LikelihoodRatioTest(
        null,
        Fit(larger, found),
        _statistic(record.log_likelihood, found.log_likelihood),
        statistics,
        _notes(record, found, int(degenerate.sum()), len(each)),
    )


def _more(smaller: ScoredMixture, rng: np.random.Generator) -> Callable[[Problem], list[Start]]:
    """Starts of more clusters than were found on the same rows."""
    return lambda problem: own_starts(problem, rng) + splits(problem, smaller, rng)


def _replicate(
    null: FitRecord,
    problem: Problem,
    wider: Problem,
    source: Source,
    engine: EM,
    rng: np.random.Generator,
) -> tuple[float, bool]:
    """The statistic of rows that were drawn, and whether an optimum behind it is degenerate."""
    narrow = over_rows(problem, null.layout, source, rng)
    parts = range(len(null.layout.parts) + 1)
    rows = narrow.sample.unpacked(0)[:, :-1]
    start = Start("null hypothesis", null.scored().responsibilities(rows, parts))
    first = _optimum(narrow._replace(starts=[start]), engine, 0, rng)
    wide = over_rows(wider, null.layout, source, rng)
    smaller = ScoredMixture.at(null.block, first.parameters.moments())
    more = _more(smaller, rng)(wide)
    second = _optimum(wide._replace(starts=more), engine, engine.n_init, rng)
    statistic = _statistic(first.log_likelihood, second.log_likelihood)
    return statistic, bool(first.degenerate or second.degenerate)


def _optimum(problem: Problem, engine: EM, n_init: int, rng: np.random.Generator) -> Optimum:
    found = search(
        ModeProjection(),
        problem,
        n_init=n_init,
        tol=engine.tol,
        max_iter=engine.max_iter,
        rng=rng,
        progress=silent,
    )
    return next(one for one in found.optima if one.chosen)


def _statistic(few: float, many: float) -> float:
    # Fewer clusters are more of which some are empty, whatever the starts have missed.
    return max(0.0, 2 * (many - few))


def _notes(null: FitRecord, found: FitRecord, degenerate: int, total: int) -> tuple[str, ...]:
    notes = []
    for record in (null, found):
        chosen = next(row for row in record.restarts if row["chosen"])
        if chosen["degenerate"]:
            notes.append(
                f"The fit of {record.n_components} is degenerate: {chosen['reason']}. The test "
                "means nothing; use prior='default'."
            )
        elif not record.converged:
            notes.append(
                f"The fit of {record.n_components} did not converge; raise the engine's max_iter."
            )
    if degenerate:
        notes.append(
            f"{degenerate} of {total} replicates owe their likelihood to a vanishing variance; "
            "prior='default' prevents it."
        )
    return tuple(notes)


def _numbers(n_components: Any) -> tuple[int, int]:
    wrong = OptionError(
        f"n_components={n_components!r} must be two numbers of clusters, the smaller first, such "
        "as (1, 2)."
    )
    try:
        few, many = n_components
    except (TypeError, ValueError):
        raise wrong from None
    if not all(isinstance(k, (int, np.integer)) for k in (few, many)) or not 1 <= few < many:
        raise wrong
    return int(few), int(many)


def _check_replicates(n_replicates: Any) -> None:
    whole = isinstance(n_replicates, (int, np.integer)) and not isinstance(n_replicates, bool)
    if not whole or n_replicates < 1:
        raise OptionError(f"n_replicates={n_replicates!r} must be a whole number, at least 1.")


def _resolve(engine: str | AbstractEngine | None) -> EM:
    chosen = POINT if engine is None else resolve_engine(engine)
    if not isinstance(chosen, EM):
        raise OptionError(
            f"engine={engine!r} maximises no likelihood; use 'em', or leave engine out."
        )
    return chosen
