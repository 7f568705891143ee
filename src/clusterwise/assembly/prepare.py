"""From a table to rows in standard units: one pass to encode, one to standardise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
import pandas as pd

from clusterwise.assembly.grouping import (
    Grouping,
    check_gates,
    check_ids,
    choose_rows,
    group_rows,
    marked,
    pack,
)
from clusterwise.assembly.layout import (
    Layout,
    Part,
    RawDesign,
    RawMoments,
    independent_columns,
    make_layout,
    raw_rows,
    select,
)
from clusterwise.assembly.missing import (
    Gaps,
    Packing,
    grams_by_pattern,
    nearest_filled,
    of_layout,
    pooled_gram,
)
from clusterwise.core.errors import DataError, OptionError
from clusterwise.core.rows import BLOCK_ROWS, CHUNK_ROWS, block_shape
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.table import Table
from clusterwise.regression.structure import AbstractCoefficients
from clusterwise.responses.generalised import check_counts
from clusterwise.sources.source import Source
from clusterwise.sources.store import AbstractStore, DiskStore, MemoryStore

SAMPLE_ROWS = CHUNK_ROWS
WEIGHT = "weight"
_FAR = 20 * 1.4826


class Prepared(NamedTuple):
    """Rows to fit to, some of them as a sample, and what is known of their columns.

    `sample_rows` have NaN where values are missing, `filled_rows` others' values, for starts.
    `typical_gram` is the average over rows of their products, without rows far outside the
    others; the default prior takes its scale from it.
    """

    layout: Layout
    source: Source
    sample: Source
    sample_rows: np.ndarray
    filled_rows: np.ndarray
    sample_weight: np.ndarray
    typical_gram: np.ndarray
    gaps: Gaps
    packing: Packing
    silent: int
    """Rows without a value of any modelled column."""
    log_scale: float
    """What standardising adds to the log density of all rows."""
    notes: tuple[str, ...]
    grouping: Grouping | None = None

    @property
    def n_units(self) -> float:
        """How many have a cluster of their own: rows with their weights, or groups."""
        return self.source.total_weight if self.grouping is None else self.grouping.n_groups


def prepare(
    table: Table,
    encoder: Encoder,
    design: RawDesign,
    *,
    n_components: int,
    common_scale: Mapping[str, bool],
    keep_aliased: Mapping[str, bool],
    forms: Sequence[Any],
    weights: Any,
    groups: str | None,
    coefficients: Sequence[AbstractCoefficients],
    rng: np.random.Generator,
) -> Prepared:
    """Encode and standardise all rows, by way of the disk where the table is a large file.

    Rows that share clusters are sorted, in memory.

    Parameters
    ----------
    common_scale, keep_aliased
        For each part: whether its columns keep their units relative to each other, and whether
        its prior identifies coefficients that the data do not.
    forms
        For each part what the user said of it, a family or a density.
    weights
        What the user said of the mixing weights.
    groups
        The table's column whose rows of one value share a cluster.
    coefficients
        For each part how its clusters' coefficients go together.
    """
    on_disk = table.is_file and encoder.n_rows > BLOCK_ROWS and groups is None
    raw_store: AbstractStore = DiskStore() if on_disk else MemoryStore()
    encoded = _encode(table, encoder, design, n_components, forms, raw_store, groups)
    moments, gaps, total_weight = encoded.moments, encoded.gaps, encoded.weight
    layout = make_layout(design, moments, common_scale, forms, coefficients, groups, weights)
    absent = of_layout(layout, gaps.absent)
    packing = Packing(absent)
    n_rows = encoder.n_rows
    grouping = numbers = None
    if groups is not None:
        raw = np.concatenate([np.asarray(raw_store.read(i)) for i in range(len(raw_store))])
        check_gates(layout, layout.standardise(raw[:, :-2]), encoded.ids)
        grouping = group_rows(encoded.ids, raw[:, -1])
        if n_components > grouping.n_groups:
            raise OptionError(
                f"n_components={n_components} is above the number of groups: {groups!r} has "
                f"{grouping.n_groups} values; ask for fewer clusters."
            )
        numbers, raw_store = grouping.numbers, MemoryStore()
        raw_store.append(raw[grouping.order])
    chosen = choose_rows(n_rows, SAMPLE_ROWS, numbers, rng)
    store: AbstractStore = DiskStore() if on_disk else MemoryStore()
    grams = np.zeros((len(absent), layout.n_columns, layout.n_columns))
    sample, first = [], 0
    for part in range(len(raw_store)):
        raw = np.asarray(raw_store.read(part))
        rows, number, weight = layout.standardise(raw[:, :-2]), raw[:, -2].astype(int), raw[:, -1]
        inside = chosen[(chosen >= first) & (chosen < first + len(rows))] - first
        sample.append(np.column_stack([rows, number, weight])[inside])
        first += len(rows)
        rows = marked(layout, rows, weight, numbers)
        grams += grams_by_pattern(rows, weight, number, len(absent))
        for packed in pack(layout, packing.packed(rows, number), weight):
            store.append(packed if on_disk else jnp.asarray(packed))
    gram = _gram_of_data(layout, grams, absent)
    largest = 1 if grouping is None else grouping.largest
    source = Source(store, n_rows, total_weight, packing.table, largest)
    sampled = np.concatenate(sample)
    marked(layout, sampled[:, :-2], sampled[:, -1], None if numbers is None else numbers[chosen])
    layout, dropped = _drop_aliased(layout, gram, moments, keep_aliased)
    typical, far = _typical_gram(layout, gram, sampled, moments, absent)
    return Prepared(
        layout=layout,
        source=source,
        sample=sample_source(
            layout,
            source,
            packing.packed(sampled[:, :-2], sampled[:, -2]),
            sampled[:, -1],
            packing.table,
        ),
        sample_rows=sampled[:, :-2],
        filled_rows=nearest_filled(sampled[:, :-2], rng),
        sample_weight=sampled[:, -1],
        typical_gram=typical,
        gaps=gaps,
        packing=packing,
        silent=encoded.silent,
        log_scale=float(grams[:, 0, 0] @ layout.log_scales(absent)),
        notes=(*dropped, *far),
        grouping=grouping,
    )


class _Encoded(NamedTuple):
    """What is known of the raw rows once all are encoded."""

    moments: RawMoments
    gaps: Gaps
    weight: float
    silent: int
    ids: list[pd.Series]
    """What tells the groups of rows, where there are any."""


def _encode(
    table: Table,
    encoder: Encoder,
    design: RawDesign,
    n_components: int,
    forms: Sequence[Any],
    store: AbstractStore,
    groups: str | None,
) -> _Encoded:
    """Keep raw rows with the numbers of their patterns and their weight, and their moments."""
    names = dict.fromkeys(v for d in encoder.designs for v in encoder.variables(d))
    names |= {} if groups is None else {groups: None}
    moments, gaps = RawMoments(len(design.names)), Gaps(len(design.names))
    modelled = [design.names.index(name) for part in design.parts for name in part.names]
    ids: list[pd.Series] = []
    distinct: set[bytes] = set()
    first, silent, total = 0, 0, 0.0
    for frame in table.batches(tuple(names), BLOCK_ROWS):
        arrays = encoder.encode(frame, incomplete=incomplete(encoder.designs), first_row=first)
        raw = raw_rows(encoder, design, arrays, len(frame))
        weight = arrays[WEIGHT][:, 0] if WEIGHT in arrays else np.ones(len(frame))
        _check_weight(weight, first)
        check_values(design, forms, raw, first)
        lost = np.isnan(raw[:, modelled]).all(axis=1)
        silent += int(lost.sum())
        weight = np.where(lost, 0.0, weight)
        number = gaps.number(raw, weight > 0, first)
        moments.add(raw, weight)
        total += float(weight.sum())
        if len(distinct) < n_components:
            distinct |= {row.tobytes() for row in np.unique(raw[weight > 0], axis=0)[:n_components]}
        store.append(np.column_stack([raw, number, weight]))
        if groups is not None:
            ids.append(cast(pd.Series, frame[groups]))
            check_ids(ids[-1], groups, first)
        first += len(frame)
    if not total and not silent:
        raise DataError("All rows have sample_weight 0; at least some must be positive.")
    _check_responses(design, moments)
    if n_components > len(distinct):
        raise OptionError(
            f"n_components={n_components} is above the number of distinct rows, {len(distinct)}; "
            "ask for fewer clusters."
        )
    return _Encoded(moments, gaps, total, silent, ids)


def incomplete(designs: Iterable[str]) -> set[str]:
    """Those designs whose values may be missing."""
    return {d for d in designs if d.startswith(("regressors", "response", "covariates"))}


def _check_weight(weight: np.ndarray, first: int) -> None:
    wrong = np.flatnonzero(weight < 0)
    if wrong.size:
        raise DataError(
            f"sample_weight is negative in {wrong.size} rows (first: "
            f"{', '.join(str(first + i) for i in wrong[:5])}); weights must be zero or positive."
        )


def check_values(
    design: RawDesign,
    forms: Sequence[Any],
    raw: np.ndarray,
    first: int,
    *,
    response: bool = True,
) -> None:
    """Refuse values that their families and densities cannot have.

    Parameters
    ----------
    design
        Names of the raw columns.
    forms
        Family or density of each part.
    raw
        (n, columns)
    first
        Number of the first row, for the error.
    response
        Whether the rows have responses to look at.
    """
    for part, form in zip(design.parts, forms, strict=True):
        own = raw[:, [design.names.index(name) for name in part.names]]
        if part.kind.startswith("response"):
            if not response:
                continue
            trials = None if part.trials is None else raw[:, design.names.index(part.trials)]
            if trials is not None:
                text = (part.trials or "").removeprefix("trials ")
                at = np.arange(len(raw)) + first
                check_counts(f"trials={text!r}", trials[:, None], at)
            seen = np.flatnonzero(~np.isnan(own).any(axis=1))
            form.check(
                f"The response {form.title(part.names)!r}",
                own[seen],
                None if trials is None else trials[seen],
                seen + first,
            )
        else:
            seen = np.flatnonzero(~np.isnan(own).any(axis=1))
            form.check(f"The covariate {part.names[0]!r}", own[seen], seen + first)


def _check_responses(design: RawDesign, moments: RawMoments) -> None:
    for part in design.parts:
        what = "response" if part.kind.startswith("response") else "covariate"
        for name in part.names:
            column = design.names.index(name)
            if not moments.weight[column]:
                raise DataError(
                    f"The {what} {name!r} is missing in all rows that count; leave it out."
                )
            if what == "response" and moments.constant[column]:
                raise DataError(
                    f"The response {name!r} is constant; a regression needs one that varies."
                )


def _drop_aliased(
    layout: Layout, gram: np.ndarray, moments: RawMoments, keep: Mapping[str, bool]
) -> tuple[Layout, tuple[str, ...]]:
    """Take out regressors and covariates that add nothing to those before them, and say so."""
    parts, notes = [], []
    for part in layout.parts:
        new = part
        if not keep.get(part.kind, False):
            new, note = _drop_regressors(new, gram, "coefficients")
            notes += note
        if part.kind.startswith("covariates") and part.form.scaled:
            new, note = _drop_covariates(new, layout, gram, moments)
            notes += note
        parts.append(new)
    gate = layout.gate
    if gate is not None:
        gate, note = _drop_regressors(gate, gram, "gates")
        notes += note
    return replace(layout, parts=tuple(parts), gate=gate), tuple(notes)


def _drop_regressors(part: Part, gram: np.ndarray, what: str) -> tuple[Part, list[str]]:
    regressors = np.asarray(part.regressors, int)
    kept = independent_columns(gram[np.ix_(regressors, regressors)])
    if len(kept) == regressors.size:
        return part, []
    lost = [t for i, t in enumerate(part.terms) if i not in kept]
    note = (
        f"The {what} of {', '.join(map(repr, lost))} are not identified: constant, "
        "or a linear combination of the terms before. They are left out."
    )
    return replace(part, regressors=select(part.regressors, kept), kept_terms=tuple(kept)), [note]


def _drop_covariates(
    part: Part, layout: Layout, gram: np.ndarray, moments: RawMoments
) -> tuple[Part, list[str]]:
    index = np.asarray((0, *part.responses), int)
    kept = [j - 1 for j in independent_columns(gram[np.ix_(index, index)]) if j]
    if not kept:
        raise DataError(
            f"The covariates {', '.join(part.names)} are constant; leave them out or set "
            "covariates=None."
        )
    if len(kept) == len(part.names):
        return part, []
    lost = [name for j, name in enumerate(part.names) if j not in kept]
    note = (
        f"The covariates {', '.join(map(repr, lost))} are constant or a linear combination of "
        "the others; their density is left out."
    )
    return replace(part, responses=select(part.responses, kept), kept_names=tuple(kept)), [note]


def _typical_gram(
    layout: Layout, gram: np.ndarray, sampled: np.ndarray, moments: RawMoments, absent: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Average products of rows that are not far outside the others in any column.

    One wild value would otherwise set the scale of the default prior.
    """
    rows, number, weight = sampled[:, :-2], sampled[:, -2].astype(int), sampled[:, -1]
    median = np.nanmedian if np.isnan(rows).any() else np.median
    middle = median(rows, axis=0)
    reach = _FAR * median(np.abs(rows - middle), axis=0)
    reach[reach == 0] = np.inf
    named = []
    # Densities of columns on their own scale take nothing from it.
    scaled = [p for p in layout.every if p is layout.gate or p.is_response or p.form.scaled]
    used = {i for part in scaled for i in (*part.regressors, *part.responses)}
    for i, column in enumerate(layout.columns, start=1):
        if i not in used:
            continue
        low = (moments.low[column.raw] - column.shift) / column.scale
        high = (moments.high[column.raw] - column.shift) / column.scale
        if low < middle[i] - reach[i] or high > middle[i] + reach[i]:
            named.append(layout.raw_names[column.raw])
    if not named:
        return gram, ()
    of_data = slice(1 + len(layout.columns))
    near = ~(np.abs(rows - middle) > reach)[:, of_data].any(axis=1) & (weight > 0)
    grams = grams_by_pattern(rows[near], weight[near], number[near], len(absent))
    trimmed = _gram_of_data(layout, grams, absent)
    note = (
        f"{', '.join(map(repr, dict.fromkeys(named)))} has values more than 20 robust standard "
        "deviations from its median; check them. They are fitted, but do not set the prior's scale."
    )
    usable = all(
        len(independent_columns(trimmed[np.ix_(c, c)])) == len(c)
        for c in (np.asarray((*p.regressors, *p.responses), int) for p in scaled)
    )
    return (trimmed if usable else gram), (note,)


def _gram_of_data(layout: Layout, grams: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Average products of the columns of the data, without those that tell groups apart."""
    own = 1 + len(layout.columns)
    return pooled_gram(grams[:, :own, :own], absent[:, :own])


def sample_source(
    layout: Layout,
    source: Source,
    values: np.ndarray,
    weight: np.ndarray,
    table: np.ndarray | None = None,
) -> Source:
    """A sample of a source's rows, as rows of its own; all rows where there are few.

    Where all rows are one block it has that block's shape, so that one program serves both.

    Parameters
    ----------
    layout, source
        Of all rows.
    values, weight
        The sample's (m, columns), as they are packed, and (m,).
    table
        Which columns are missing in each pattern, where the source has patterns.
    """
    if source.n_rows <= SAMPLE_ROWS:
        return source
    store = MemoryStore()
    shape = block_shape(source.n_rows if source.n_blocks == 1 else len(values))
    (packed,) = pack(layout, values, weight, shape)
    store.append(jnp.asarray(packed))
    return Source(store, len(values), float(weight.sum()), table)
