"""Which candidate to take, in words, with what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from clusterwise.selection.criteria import Criterion
from clusterwise.selection.table import Candidate, best_of

_SLIGHT = 2.0
"""A difference of BIC barely worth a mention (Kass and Raftery 1995, JASA 90)."""
_PARETO = 0.7
_NEAR = 5.0
"""Log density that a run which did not converge might still gain."""

_TASTE = {
    "aic": "AIC tends to take too many clusters",
    "icl": "ICL asks for clusters that are far apart",
}


def recommend(candidates: Sequence[Candidate], criteria: Sequence[Criterion]) -> str:
    """Sentences: the candidate to take, how clear that is, and what to look at.

    Parameters
    ----------
    candidates
        All of them.
    criteria
        Those reported, the deciding one first.
    """
    deciding = criteria[0]
    number = best_of(candidates, deciding)
    best = candidates[number]
    parts = [_choice(candidates, best, deciding)]
    simpler = _as_good(candidates, best, deciding)
    if simpler is not None:
        parts.append(_instead(best, simpler, deciding))
    elif best.k == 1:
        parts.append("Nothing is gained by a second cluster.")
    parts += _disagreements(candidates, number, criteria)
    parts += _edge(best)
    parts += _troubles(candidates, best, deciding)
    return " ".join(parts)


def _choice(candidates: Sequence[Candidate], best: Candidate, deciding: Criterion) -> str:
    if deciding.test:
        return _tested(candidates, best, deciding)
    text = f"Take {best.name}: {deciding.title} is best there, {best.value(deciding):.2f}"
    others = [one for one in candidates if one is not best]
    if not others:
        return f"{text}; nothing else was tried."
    second = others[best_of(others, deciding)]
    gap, error = _behind(best, second, deciding)
    said = f" with a standard error of {error:.2f}" if deciding.pointwise else ""
    return f"{text}; {second.name} comes next, {gap:.2f} worse{said}."


def _tested(candidates: Sequence[Candidate], best: Candidate, test: Criterion) -> str:
    """What a test of each number of clusters against the next rejects, and what not."""
    pairs = list(pairwise(candidates))
    rejected = [
        f"{few.name} against {many.name} (p = {few.value(test):.2g})"
        for few, many in pairs
        if few.k < best.k
    ]
    kept = [
        f"{few.name} against {many.name} (p = {few.value(test):.2g})"
        for few, many in pairs
        if few is best
    ]
    said = [f"rejects {_listed(rejected)}"] if rejected else []
    said += [f"does not reject {kept[0]}"] if kept else []
    return f"Take {best.name}: {test.title} {' and '.join(said) or 'has nothing to compare'}."


def _behind(best: Candidate, other: Candidate, criterion: Criterion) -> tuple[float, float]:
    """By how much a candidate is worse than the best, and the standard error of that."""
    if criterion.pointwise:
        gap = best.rows[criterion.name].minus(other.rows[criterion.name])
        return gap.total, gap.standard_error
    values = np.array([best.value(criterion), other.value(criterion)])
    better, worse = criterion.gains(values)
    return float(better - worse), 0.0


def _as_good(
    candidates: Sequence[Candidate], best: Candidate, deciding: Criterion
) -> Candidate | None:
    """The smallest candidate that the criterion cannot tell from the best."""
    if deciding.test:
        return None
    within = []
    for one in candidates:
        gap, error = _behind(best, one, deciding)
        slight = _SLIGHT if deciding.smaller else _SLIGHT / 2
        allowed = error if deciding.pointwise else slight
        if one is not best and gap <= allowed:
            within.append(one)
    smaller = [one for one in within if one.fit.n_parameters < best.fit.n_parameters]
    return min(smaller, key=lambda one: one.fit.n_parameters, default=None)


def _instead(best: Candidate, simpler: Candidate, deciding: Criterion) -> str:
    gap, _ = _behind(best, simpler, deciding)
    how = (
        "within one standard error of it"
        if deciding.pointwise
        else f"only {gap:.2f} behind, which is barely worth a mention"
    )
    if simpler.k == 1:
        return (
            f"But one cluster does as well ({simpler.name} is {how}): the data give no firm "
            "support to several."
        )
    return f"{simpler.name} has fewer parameters and is {how}; prefer it where it makes sense."


def _disagreements(
    candidates: Sequence[Candidate], number: int, criteria: Sequence[Criterion]
) -> list[str]:
    """Which other criteria prefer what."""
    found: dict[int, list[Criterion]] = {}
    for criterion in criteria[1:]:
        other = best_of(candidates, criterion)
        if other != number:
            found.setdefault(other, []).append(criterion)
    if not found:
        agreeing = [c.title for c in criteria[1:]]
        if not agreeing or len(candidates) == 1:
            return []
        said = f"{_listed(agreeing)} {'agree' if len(agreeing) > 1 else 'agrees'}."
        return [said[0].upper() + said[1:]]
    parts = []
    for other, who in sorted(found.items()):
        titles = _listed([c.title for c in who])
        parts.append(f"{titles} {'prefer' if len(who) > 1 else 'prefers'} {candidates[other].name}")
    tastes = [_TASTE[c.name] for who in found.values() for c in who if c.name in _TASTE]
    why = f" ({'; '.join(tastes)})" if tastes else ""
    return [f"The criteria disagree: {'; '.join(parts)}{why}."]


def _edge(best: Candidate) -> list[str]:
    numbers = best.chain.n_components
    if best.k != numbers[-1] or len(numbers) == 1:
        return []
    return [
        f"{best.k} is the largest number of clusters tried, so that more may be better still: "
        f"go on with n_components=range({numbers[0]}, {2 * best.k + 1})."
    ]


def _troubles(candidates: Sequence[Candidate], best: Candidate, deciding: Criterion) -> list[str]:
    """Degenerate optima, empty components, runs that did not converge, weights that are heavy."""
    parts = []
    degenerate = [one.name for one in candidates if one.degenerate]
    if best.degenerate:
        parts.append(
            f"The fit of {best.name} is degenerate, its likelihood due to a vanishing variance: "
            "do not trust it; use prior='default' or fewer clusters."
        )
    elif degenerate:
        parts.append(
            f"The {'fits' if len(degenerate) > 1 else 'fit'} of {_listed(degenerate)} "
            f"{'are' if len(degenerate) > 1 else 'is'} degenerate and look better than they are."
        )
    if best.empty:
        parts.append(
            f"{best.empty} of its components {'have' if best.empty > 1 else 'has'} less than one "
            f"row: {best.k - best.empty} clusters do the same."
        )
    unsettled = [
        one.name
        for one in candidates
        if not one.fit.converged
        and (deciding.test or _behind(best, one, deciding)[0] < _NEAR * deciding.per_log_density)
    ]
    if unsettled:
        many = len(unsettled) > 1
        parts.append(
            f"{_listed(unsettled)} did not converge; {'their' if many else 'its'} criteria may "
            "still improve with a larger max_iter."
        )
    heavy = [one.name for one in candidates if one.pareto > _PARETO]
    if heavy and deciding.name == "loo":
        parts.append(
            f"PSIS-LOO is unreliable for {_listed(heavy)} (Pareto k above {_PARETO}); compare "
            "with criterion='cv'."
        )
    return parts


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
