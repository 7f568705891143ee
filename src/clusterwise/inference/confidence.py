"""How sure a relabelling is.

Renumbered at random, a posterior puts the log odds x, of "l and m are as they are" against "l and
m are exchanged", symmetrically around zero: density g(x) = (f(x) + f(-x)) / 2, with f the
density where all labels are right. Relabelling keeps |x|. A draw at |x| is then wrongly labelled
with odds r = f(-|x|) / f(|x|). Of f one thing is assumed, that log f is concave between -|x| and
|x|: then f(x) f(-x) <= f(0)^2, and r follows from the heights of g at 0 and x. Where draws avoid
zero, r is nothing; one lump around zero has r = 1, as the draws do not tell l from m at all. The
odds of the memberships themselves are the least that r can be. So the number of rows, which
sharpens those without limit, does not by itself make a relabelling sure. Probabilities of
permutations are an idea of Sperrin, Jaki and Wit (2010).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clusterwise.core.errors import DataError

_GRID = 400


class Confidence(NamedTuple):
    """Probabilities, by draws, that clusters are numbered right.

    Attributes
    ----------
    overall
        Share of the draws whose clusters are all numbered right, in expectation; 1 / k! where
        nothing tells the clusters apart.
    clusters
        (k,) the same of each cluster alone; 1 / k where nothing tells it from the others.
    draws
        (draws,) probability that all clusters of a draw are numbered right.
    """

    overall: float
    clusters: np.ndarray
    draws: np.ndarray


def confidence(match: np.ndarray, groups: np.ndarray | None = None) -> Confidence:
    """Probabilities that draws were relabelled right.

    Parameters
    ----------
    match
        (draws, k, k) of a `Relabelling`: expected log probability that the rows of a draw's
        cluster k belong to cluster l. Nothing tells clusters without rows apart: leave them out
        (`match[:, kept][:, :, kept]`) where only the others matter.
    groups
        (k,) group of each cluster, if not all are one; those of different groups are told apart
        by more than their numbers and are never exchanged.

    Raises
    ------
    DataError
        Where `match` has another shape or holds values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from clusterwise.inference.confidence import confidence
    >>> rng = np.random.default_rng(0)
    >>> def pair(log_odds):
    ...     zero = np.zeros_like(log_odds)
    ...     return np.stack([np.stack([log_odds, zero], 1), np.stack([zero, zero], 1)], 2)
    >>> bool(confidence(pair(rng.normal(60, 10, 1000))).overall > 0.999)
    True
    >>> bool(confidence(pair(np.abs(rng.normal(0, 10, 1000)))).overall < 0.75)
    True
    """
    if match.ndim != 3 or match.shape[1] != match.shape[2] or not match.shape[0]:
        raise DataError(f"match has shape {match.shape}: expected (draws, k, k).")
    if not np.isfinite(match).all():
        raise DataError("match has values that are not finite.")
    draws, k, _ = match.shape
    odds = np.zeros((draws, k, k))
    own = np.diagonal(match, axis1=1, axis2=2)
    for one in range(k):
        for other in range(one + 1, k):
            if groups is not None and groups[one] != groups[other]:
                continue
            exchanged = match[:, one, other] + match[:, other, one]
            gain = own[:, one] + own[:, other] - exchanged
            odds[:, one, other] = odds[:, other, one] = _odds_of_error(gain)
    clusters = 1 / (1 + odds.sum(axis=2))
    # In turn, each among those not yet placed: exact where nothing or everything tells them apart.
    all_right = (1 / (1 + np.triu(odds, 1).sum(axis=2))).prod(axis=1)
    return Confidence(float(all_right.mean()), clusters.mean(axis=0), all_right)


def _odds_of_error(gain: np.ndarray) -> np.ndarray:
    """Odds (draws,) that two clusters are exchanged, from log odds that relabelling made >= 0."""
    from scipy.signal import fftconvolve  # takes most of a second to import

    size = np.maximum(gain, 0)
    least = np.exp(-size)
    quarter, three_quarters, top = np.quantile(size, [0.25, 0.75, 0.995])
    width = min(float(size.std()), (three_quarters - quarter) / 1.34) or float(size.std())
    if width <= 1e-9 * max(float(top), 1e-300):
        return least
    width *= len(size) ** -0.2
    # Density of the log odds with both signs, on a grid from 0; a step is at most half a width.
    step = max(top / _GRID, 1e-300)
    n_steps = _GRID
    if step > width / 2:
        step, n_steps = width / 2, min(int(2 * top / width) + 1, 20_000)
    index = np.minimum(size / step, n_steps).astype(int)
    counts = np.bincount(index, minlength=n_steps + 1)[: n_steps + 1].astype(float)
    counts[-1] = 0  # beyond the grid
    reach = min(int(5 * width / step) + 1, n_steps)
    offsets = np.arange(-reach, reach + 1) * step / width
    both = np.concatenate([counts[::-1], counts])
    density = fftconvolve(both, np.exp(-0.5 * offsets**2), mode="same")[n_steps + 1 :]
    if density.max() <= 0:  # all draws lie beyond the grid, thousands of widths from zero
        return least
    density = np.maximum(density, 1e-12 * density.max())
    # f(0) = g(0); f(x) + f(-x) = 2 g(x); f(x) f(-x) = f(0)^2 at most.
    ratio = np.minimum(density[0] / density, 1)
    half = (1 - np.sqrt(1 - ratio**2)) / ratio
    # Larger log odds are no less sure; beyond the grid lies a two-hundredth of the draws.
    odds = np.minimum.accumulate(half**2)
    return np.maximum(odds[np.minimum(index, n_steps - 1)], least)
