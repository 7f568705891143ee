"""What the diagnostics of a sampled mixture say, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from clusterwise.inference.confidence import Confidence
from clusterwise.inference.diagnostics import MIN_DRAWS
from clusterwise.inference.modes import Mode

MAX_RHAT = 1.01
BAD_RHAT = 1.05
MIN_ESS_PER_CHAIN = 100
SURE = 0.9
MOST_SWITCHED = 0.01
LEAST_FRACTION = 0.3

_FLAGS = ("good", "caution", "bad")


class Verdict(NamedTuple):
    """What to make of the draws.

    Attributes
    ----------
    flag
        "good": use them; "caution": read the sentences first; "bad": do not use them as they are.
    sentences
        What was found, each with its cure; for good draws one that says so.
    """

    flag: str
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.flag}: " + " ".join(self.sentences)


def verdict(
    table: pd.DataFrame,
    *,
    confidence: Confidence | None = None,
    modes: Sequence[Mode] = (),
    switched: float = 0.0,
    divergences: int = 0,
    deepest_trees: int = 0,
    energy_fractions: Sequence[float] | np.ndarray = (),
) -> Verdict:
    """Read a table of diagnostics.

    The bars are those of Vehtari et al. (2021): R-hat at most 1.01, and 100 effective draws a
    chain in bulk and tails; and of Betancourt (2016, arXiv:1604.00695): E-BFMI at least 0.3.

    Parameters
    ----------
    table
        Of `diagnose`.
    confidence
        How sure the relabelling is; components below 0.9 are named.
    modes
        Modes of the posterior; more than one is said.
    switched
        Share of the draws whose components an iterative relabelling would number otherwise.
    divergences
        Draws that ended in a divergence (NUTS).
    deepest_trees
        Draws that stopped at the greatest tree depth (NUTS).
    energy_fractions
        E-BFMI of each chain (NUTS), by `energy_fractions` of the diagnostics; NaN says nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.diagnostics import diagnose
    >>> from clusterwise.inference.verdict import verdict
    >>> rng = np.random.default_rng(0)
    >>> print(verdict(diagnose({"mean": rng.normal(size=(4, 500, 2))}), divergences=3).flag)
    caution
    """
    chains, draws = int(table.attrs["chains"]), int(table.attrs["draws"])
    total = chains * draws
    said: list[tuple[int, str]] = []
    broken = ~np.isfinite(_column(table, "mean"))
    if broken.any():
        names = _listed(_names(table, broken))
        said.append(
            (
                2,
                f"Draws of {names} are not finite: look for extreme values in the data, or use "
                "stronger priors.",
            )
        )
    if draws < MIN_DRAWS:
        said.append((2, f"{draws} draws a chain are too few to judge: raise num_samples."))
    elif chains == 1:
        said.append((1, "One chain cannot show whether chains agree: run four (num_chains=4)."))
    several = len(modes) > 1
    said += _about_modes(modes)
    unsure = [] if confidence is None else np.flatnonzero(confidence.clusters < SURE).tolist()
    said += _about_rhat(table, several, unsure)
    said += _about_ess(table, chains)
    if unsure and confidence is not None:
        which = _components(unsure)
        said.append(
            (
                1,
                f"The relabelling is unsure for {which} (probability of the right label "
                f"{confidence.clusters[unsure].min():.2f}): the draws hardly tell them apart. Use "
                "fewer components, or rely on quantities without labels: predictions, densities, "
                "co-clustering.",
            )
        )
    if switched > MOST_SWITCHED:
        said.append(
            (
                2,
                f"Labels switch: {_percent(switched)} of the draws number the components otherwise "
                "than the others do, so averages over draws mix clusters. Use fit.relabel().",
            )
        )
    if divergences:
        said.append(
            (
                2 if divergences > 0.01 * total else 1,
                f"{_times(divergences, 'draw')} of {total} diverged: raise target_accept (0.95, "
                "then 0.99), or use stronger priors.",
            )
        )
    if deepest_trees > 0.01 * total:
        said.append(
            (
                1,
                f"{_times(deepest_trees, 'draw')} of {total} stopped at the greatest tree depth, "
                "which makes sampling slow: raise num_warmup, then max_tree_depth.",
            )
        )
    fractions = np.asarray(energy_fractions, dtype=float)
    slow = np.flatnonzero(fractions < LEAST_FRACTION).tolist()
    if slow:
        said.append(
            (
                1,
                f"The energy of {_numbered('chain', slow)} changes little from draw to draw "
                f"(E-BFMI {fractions[slow].min():.2f}; {LEAST_FRACTION} is needed): tails of the "
                "posterior are seldom visited. Use stronger priors, above all on variances and "
                "the concentration, or raise num_samples and compare with engine='gibbs'.",
            )
        )
    if not said:
        said.append((0, _all_well(table, confidence)))
    said.sort(key=lambda one: -one[0])
    return Verdict(_FLAGS[said[0][0]], tuple(sentence for _, sentence in said))


def _about_modes(modes: Sequence[Mode]) -> list[tuple[int, str]]:
    if len(modes) < 2:
        return []
    said = []
    first = modes[0]
    mixing = all(((mode.chains > 0) & (mode.chains < 1)).any() for mode in modes)
    for number, mode in enumerate(modes[1:], start=2):
        gap = mode.log_density - first.log_density
        where = f"in {_times(int((mode.chains > 0).sum()), 'chain')} of {len(mode.chains)}"
        said.append(
            f"A mode of its own, number {number}, holds {_percent(mode.share)} of the draws, "
            f"{where}; its log density is {abs(gap):.1f} {'higher' if gap > 0 else 'lower'} on "
            "average than the first's. No renumbering of components makes them one."
        )
    cure = (
        "Chains move between the modes: averages over both hide them, so read each mode alone."
        if mixing
        else "Chains do not move between the modes, so shares of draws say where chains started: "
        "run more chains from other starts, compare log densities, and read each mode alone."
    )
    return [(1 if mixing else 2, " ".join([*said, cure]))]


def _about_rhat(
    table: pd.DataFrame, several_modes: bool, unsure: Sequence[int]
) -> list[tuple[int, str]]:
    said = []
    rhat = _column(table, "rhat")
    invariant = np.array([kind == "invariant" for kind in table["kind"]])
    high = invariant & (rhat > MAX_RHAT)
    if high.any():
        worst = float(rhat[high].max())
        cure = (
            "the modes above are why"
            if several_modes
            else "raise num_warmup and num_samples, and if it stays, the chains sit in different "
            "modes: run more chains"
        )
        said.append(
            (
                2 if worst > BAD_RHAT else 1,
                f"Chains disagree on {_listed(_names(table, high))}, which no renumbering of "
                f"components changes (R-hat up to {_number(worst)}): {cure}.",
            )
        )
    high = ~invariant & (rhat > MAX_RHAT)
    if high.any():
        worst = float(rhat[high].max())
        which = sorted(
            {int(c) for c, chosen in zip(table["component"], high, strict=True) if chosen}
        )
        if set(which) <= {int(c) for c in unsure}:
            cure = "their labels are unsure, see there"
        elif several_modes:
            cure = "the modes above are why"
        elif said:
            cure = "as above, since the chains themselves disagree"
        elif invariant.any():
            cure = "the chains agree on what labels do not change; raise num_samples, or use "
            cure += "fewer components"
        else:
            cure = "raise num_warmup and num_samples"
        said.append(
            (
                2 if worst > BAD_RHAT else 1,
                f"After relabelling chains disagree on {_components(which)}: "
                f"{_listed(_names(table, high))} (R-hat up to {_number(worst)}): {cure}.",
            )
        )
    return said


def _about_ess(table: pd.DataFrame, chains: int) -> list[tuple[int, str]]:
    least = np.fmin(_column(table, "ess_bulk"), _column(table, "ess_tail"))
    low = least < MIN_ESS_PER_CHAIN * chains
    if not low.any():
        return []
    smallest = float(least[low].min())
    needed = int(np.ceil(MIN_ESS_PER_CHAIN * chains / max(smallest, 1.0)))
    return [
        (
            1,
            f"Few effective draws of {_listed(_names(table, low))} ({smallest:.0f} at least; "
            f"{MIN_ESS_PER_CHAIN * chains} are needed): raise num_samples about {max(needed, 2)} "
            "times, or use engine='nuts' where chains move slowly.",
        )
    ]


def _all_well(table: pd.DataFrame, confidence: Confidence | None) -> str:
    rhat = _column(table, "rhat")
    least = np.fmin(_column(table, "ess_bulk"), _column(table, "ess_tail"))
    text = "Nothing varies over the draws"
    if np.isfinite(rhat).any():
        text = (
            f"Chains agree (R-hat at most {_number(float(np.nanmax(rhat)))}), with at least "
            f"{np.nanmin(least):.0f} effective draws of every quantity"
        )
    if confidence is not None:
        text += f"; the relabelling is sure ({_percent(confidence.overall)})"
    return text + "."


def _column(table: pd.DataFrame, name: str) -> np.ndarray:
    return table[name].to_numpy(dtype=float)


def _names(table: pd.DataFrame, chosen: np.ndarray) -> list[str]:
    return [str(name) for name in table["quantity"].to_numpy()[chosen]]


def _listed(names: Sequence[str], most: int = 4) -> str:
    shown, rest = list(names[:most]), len(names) - most
    if rest > 0:
        return ", ".join(shown) + f" and {rest} more"
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}"


def _components(numbers: Sequence[int]) -> str:
    return _numbered("component", numbers)


def _numbered(thing: str, numbers: Sequence[int]) -> str:
    words = _listed([str(number) for number in numbers], most=8)
    return f"{thing}{'' if len(numbers) == 1 else 's'} {words}"


def _times(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if 0.01 <= share <= 0.99 else f"{100 * share:.1f}%"


def _number(value: float) -> str:
    return (
        f"{value:.3f}" if value < 10 else ("infinite" if not np.isfinite(value) else f"{value:.0f}")
    )
