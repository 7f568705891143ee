"""What the data cannot tell, and clusters that hardly differ: notes with their cure."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import gammaincinv

from clusterwise.assembly.assemble import Assembled
from clusterwise.assembly.layout import INTERCEPT, Layout, Part
from clusterwise.assembly.units import Values

_ZERO = 1e-8
_SHARE = 0.05
"""Of the rows, which a set must have to count."""
_CLEAR = 3.0
"""Standard deviations by which levels must differ."""
_USUAL = 0.9
"""Of the distances of slopes that are equal."""
_SMALL = 0.25
_LEAST_ROWS = 10.0
_LIKE_DISPERSION = 1.5


def data_notes(assembled: Assembled) -> list[str]:
    """What the rows leave open about a conditional model's clusters, whatever the fit.

    A density of covariates tells clusters apart by itself, and rows of a group are told apart
    together; then there is nothing to say.

    Parameters
    ----------
    assembled
        The model and its rows.

    Returns
    -------
    list of str

    References
    ----------
    Hennig (2000), Journal of Classification 17; Teicher (1963), Annals of Mathematical
    Statistics 34; Follmann and Lambert (1991), Journal of Statistical Planning and Inference 27.
    """
    layout, k = assembled.prepared.layout, assembled.spec.n_components
    parts = [part for part in layout.parts if part.is_response]
    if k == 1 or layout.densities or layout.groups is not None or not parts:
        return []
    rows = assembled.prepared.sample_rows[assembled.prepared.sample_weight > 0]
    notes = _regressor_notes(parts, rows, k)
    if len(parts) == 1 and parts[0].form.bounded:
        notes += _trials_notes(parts[0], rows, k)
    return notes


def _regressor_notes(parts: list[Part], rows: np.ndarray, k: int) -> list[str]:
    """Regressors with too few distinct rows, or that fall apart.

    Responses of one cluster tie its rows together, each by its own regressors; so do coefficients
    that clusters share.
    """
    if any(part.shared or len(part.regressors) < 2 for part in parts):
        return []
    columns = sorted({i for part in parts for i in part.regressors})
    distinct, labels, counts = np.unique(
        rows[:, columns], axis=0, return_inverse=True, return_counts=True
    )
    titles = ", ".join(repr(part.title) for part in parts)
    if len(parts) == 1:
        sets = np.bincount(unconnected(distinct), weights=counts)
        n_sets = int((sets >= _SHARE * len(labels)).sum())
        if n_sets > 1:
            return [
                f"The regressors of {titles} fall into {n_sets} sets of rows that have no "
                "coefficient in common, such as the levels of a factor that all terms interact "
                "with. Which regression of one set belongs with which of another is told by the "
                "weights and dispersions of the clusters alone. Leave out an interaction, or give "
                "covariates whose density differs between clusters."
            ]
    p = max(len(part.regressors) for part in parts)
    if len(distinct) <= k * (p - 1):
        return [
            f"The regressors of {titles} have {len(distinct)} distinct rows, which {k} hyperplanes "
            f"cover: another {k} regressions may describe the data as well (Hennig 2000). Use "
            "fewer clusters or terms, rows at more values, or covariates whose density differs "
            "between clusters."
        ]
    return []


def unconnected(rows: np.ndarray) -> np.ndarray:
    """Which set each row is of, sets being those that no linear relation between rows crosses.

    With regressions in general position a cluster's coefficients can be recombined with another's
    exactly between such sets: the ranks of the sets then add up to the rank of all, so that any
    values of the linear predictor on the one go with any on the other. They are the connected
    components of the rows' linear matroid, found from each row's coordinates in a basis of rows.

    Parameters
    ----------
    rows
        (m, p) distinct rows.

    Returns
    -------
    numpy.ndarray
        (m,) numbers of sets, from 0.

    Examples
    --------
    Two levels of a factor, each with a line of its own, and with a common slope:

    >>> import numpy as np
    >>> from clusterwise.inference.identifiability import unconnected
    >>> x, g = np.tile(np.arange(3.0), 2), np.repeat([0.0, 1.0], 3)
    >>> one = np.ones(6)
    >>> unconnected(np.column_stack([one, x, g, x * g])).tolist()
    [0, 0, 0, 1, 1, 1]
    >>> unconnected(np.column_stack([one, x, g])).tolist()
    [0, 0, 0, 0, 0, 0]
    """
    from scipy.linalg import qr
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    factors: Any = qr(rows.T, mode="economic", pivoting=True)
    _, upper, order = factors
    size = np.abs(np.diag(upper))
    rank = int((size > _ZERO * size[0]).sum())
    basis = order[:rank]
    coordinates = np.linalg.lstsq(rows[basis].T, rows.T, rcond=None)[0]
    member, row = np.nonzero(np.abs(coordinates) > _ZERO)
    m = len(rows)
    graph = coo_array((np.ones(row.size), (basis[member], row)), shape=(m, m))
    _, found = connected_components(graph, directed=False)
    # Numbered by their first row.
    _, first = np.unique(found, return_index=True)
    return np.argsort(np.argsort(first))[found]


def _trials_notes(part: Part, rows: np.ndarray, k: int) -> list[str]:
    """Responses with so few trials that a row says little of its cluster."""
    trials = 1 if part.trials is None else int(rows[:, part.trials].max())
    if trials >= 2 * k - 1:
        return []
    said = "one trial a row" if trials == 1 else f"at most {trials} trials a row"
    distinct = len(np.unique(rows[:, list(part.regressors)], axis=0))
    if k > np.sqrt(distinct + 2) - 1:
        return [
            f"{part.title!r} has {said} and its regressors {distinct} distinct rows: {k} clusters "
            f"are not identified. They need {2 * k - 1} trials a row (Teicher 1963), or "
            f"{(k + 1) ** 2 - 2} distinct rows (Follmann and Lambert 1991), or covariates whose "
            "density differs between clusters."
        ]
    return [
        f"{part.title!r} has {said}, fewer than the {2 * k - 1} that would tell {k} clusters apart "
        "at any one row of regressors: they are told apart only by the shape of the response's "
        "probability. Expect wide uncertainty; covariates whose density differs between clusters "
        "would help."
    ]


def alike_notes(layout: Layout, values: Values, spread: Values, n_rows: float) -> list[str]:
    """Pairs of clusters whose regressions differ in the intercept only, or not at all.

    Parameters
    ----------
    layout
        The model's columns.
    values, spread
        Estimates and their standard deviations in standard units, so that an intercept is the
        level at the mean of the regressors.
    n_rows
        Number of rows.
    """
    parts = [(i, part) for i, part in enumerate(layout.parts) if part.is_response]
    if layout.densities or len(parts) != 1:
        return []
    i, part = parts[0]
    own = [j for j in part.kept_terms if j not in part.shared]
    slopes = [j for j in own if part.terms[j] != INTERCEPT]
    level = [j for j in own if part.terms[j] == INTERCEPT]
    if not slopes or not level:
        return []
    mean, sd = values.parts[i].coefficients, spread.parts[i].coefficients
    heavy = np.flatnonzero(values.weights * n_rows >= max(_LEAST_ROWS, 2 * len(own)))
    notes = []
    for a, b in combinations(heavy.tolist(), 2):
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (mean[a] - mean[b]) / np.sqrt(np.square(sd[a]) + np.square(sd[b]))
        distance = float(np.square(z[slopes]).sum())
        ratios = [v[[a, b]].max() / v[[a, b]].min() for v in values.parts[i].dispersion.values()]
        if distance > _usual_distance(z[slopes].size) or max(ratios, default=1) > _LIKE_DISPERSION:
            continue
        apart = np.abs(z[level]).max()
        # Regressors have unit size: slopes are small where they matter less than the level.
        size = [float(np.linalg.norm((mean[a] - mean[b])[some])) for some in (slopes, level)]
        if apart > _CLEAR and size[0] < _SMALL * size[1]:
            terms = " + ".join(part.terms[j] for j in slopes)
            notes.append(
                f"Components {a} and {b} differ only in the intercept of {part.title!r}: their "
                f"other coefficients are equal within their uncertainty; shared={terms!r} gives "
                "them to all clusters and has fewer parameters."
            )
        elif apart < 1 and distance < z[slopes].size:
            notes.append(
                f"Components {a} and {b} have the same regression within its uncertainty; try "
                f"n_components={values.weights.size - 1}, or see what cw.select says."
            )
    return notes


def _usual_distance(size: int) -> float:
    """Quantile of the chi-squared distribution that distances of equal slopes have."""
    return 2 * float(gammaincinv(size / 2, _USUAL))
