"""Rows of one value of a column, brought together: they share a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from clusterwise.assembly.layout import Layout
from clusterwise.core.errors import DataError
from clusterwise.core.groups import pack_groups
from clusterwise.core.rows import pack_rows

_SAMPLED_GROUPS = 64


class Grouping(NamedTuple):
    """Rows in the order of their groups, and these in order of first appearance.

    `order` (n,) are the numbers of rows as the data have them, `numbers` (n,) those of the groups
    of the ordered rows. Rows without weight come last.
    """

    order: np.ndarray
    numbers: np.ndarray
    n_groups: int
    """Groups that have weight."""
    largest: int
    """Rows of the largest of them."""


def check_ids(ids: pd.Series, name: str, first_row: int) -> None:
    """Refuse a missing value."""
    missing = np.flatnonzero(ids.isna().to_numpy())
    if missing.size:
        raise DataError(
            f"column {name!r} (groups) is missing in {missing.size} rows (from 0: "
            f"{', '.join(str(first_row + i) for i in missing[:5])}); say which rows share a "
            "cluster, or give a row that shares with none a value of its own"
        )


def numbers_of(ids: Sequence[pd.Series]) -> np.ndarray:
    """Number (n,) of each row's group, in order of first appearance; parts follow one another."""
    joined = ids[0] if len(ids) == 1 else pd.concat(ids, ignore_index=True)
    return pd.factorize(joined)[0]


def check_gates(layout: Layout, rows: np.ndarray, ids: Sequence[pd.Series]) -> None:
    """Refuse groups whose rows (n, columns), in the data's order, say different weights."""
    gate, numbers = layout.gate, numbers_of(ids)
    if gate is None:
        return
    values = rows[:, list(gate.regressors)]
    first = np.unique(numbers, return_index=True)[1]
    wrong, places = np.nonzero(values != values[first[numbers]])
    if wrong.size:
        term = gate.terms[gate.kept_terms[int(places[0])]]
        joined = pd.concat(ids, ignore_index=True).tolist()
        raise DataError(
            f"the rows of {layout.groups}={joined[int(wrong[0])]!r} share a cluster, and {term!r}, "
            f"which its weights depend on, differs between them (row {wrong[0]}, from 0); give "
            "every row of a group the same value, such as the group's first or average one"
        )


def group_rows(ids: Sequence[pd.Series], weight: np.ndarray) -> Grouping:
    """Sort the rows of a table that is read part by part; their weights are (n,)."""
    numbers = numbers_of(ids)
    order = np.lexsort((numbers, weight == 0))
    sizes = np.bincount(numbers[weight > 0])
    return Grouping(order, numbers[order], int((sizes > 0).sum()), int(sizes.max()))


def marked(
    layout: Layout, rows: np.ndarray, weight: np.ndarray, numbers: np.ndarray | None
) -> np.ndarray:
    """Rows (n, columns) that say where groups of these numbers (n,) begin; others as they are."""
    if layout.group_columns is not None and numbers is not None:
        layout.group_columns.mark(rows, weight, numbers)
    return rows


def pack(
    layout: Layout, rows: np.ndarray, weight: np.ndarray, shape: tuple[int, int] | None = None
) -> list[np.ndarray]:
    """Blocks of rows in which groups are whole; without groups of a shape where one is given."""
    groups = layout.group_columns
    if groups is None:
        return [pack_rows(rows, weight, shape)]
    return pack_groups(rows, weight, groups)


def choose_rows(
    n_rows: int, most: int, groups: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Numbers of a sample of rows, ascending: all of some groups, but for very large ones.

    Of a large group some rows are chosen, so that the sample has many groups. `groups` (n,) are
    the numbers of their groups.
    """
    if n_rows <= most:
        return np.arange(n_rows)
    if groups is None:
        return np.sort(rng.choice(n_rows, most, replace=False))
    shuffled = rng.permutation(n_rows)
    numbers = groups[shuffled]
    by_group = np.argsort(numbers, kind="stable")
    ordered, numbers = shuffled[by_group], numbers[by_group]
    _, first, number = np.unique(numbers, return_index=True, return_inverse=True)
    kept = np.arange(n_rows) - first[number] < most // min(len(first), _SAMPLED_GROUPS)
    sizes = np.bincount(number[kept])
    random = rng.permutation(len(sizes))
    fitting = random[np.cumsum(sizes[random]) <= most]
    return np.sort(ordered[kept & np.isin(number, fitting)])
