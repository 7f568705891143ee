"""From a table to rows in standard units: one pass to encode, one to standardise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

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
from clusterwise.core.errors import DataError, OptionError
from clusterwise.core.rows import BLOCK_ROWS, CHUNK_ROWS, block_shape, pack_rows
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.table import Table
from clusterwise.responses.generalised import check_counts
from clusterwise.sources.source import Source
from clusterwise.sources.store import AbstractStore, DiskStore, MemoryStore

SAMPLE_ROWS = CHUNK_ROWS
WEIGHT = "weight"
_FAR = 20 * 1.4826


class Prepared(NamedTuple):
    """Rows to fit to, some of them as a sample, and what is known of their columns.

    `typical_gram` is the average over rows of their products, without rows far outside the
    others; the default prior takes its scale from it.
    """

    layout: Layout
    source: Source
    sample: Source
    sample_rows: np.ndarray
    sample_weight: np.ndarray
    typical_gram: np.ndarray
    notes: tuple[str, ...]


def prepare(
    table: Table,
    encoder: Encoder,
    design: RawDesign,
    *,
    n_components: int,
    common_scale: Mapping[str, bool],
    keep_aliased: Mapping[str, bool],
    forms: Sequence[Any],
    rng: np.random.Generator,
) -> Prepared:
    """Encode and standardise all rows, by way of the disk where the table is a large file.

    Parameters
    ----------
    common_scale, keep_aliased
        For each part: whether its columns keep their units relative to each other, and whether
        its prior identifies coefficients that the data do not.
    forms
        For each part what the user said of it, a family or a density.
    """
    on_disk = table.is_file and encoder.n_rows > BLOCK_ROWS
    raw_store: AbstractStore = DiskStore() if on_disk else MemoryStore()
    moments = _encode(table, encoder, design, n_components, forms, raw_store)
    layout = make_layout(design, moments, common_scale, forms)
    n_rows = encoder.n_rows
    chosen = np.arange(n_rows)
    if n_rows > SAMPLE_ROWS:
        chosen = np.sort(rng.choice(n_rows, SAMPLE_ROWS, replace=False))
    store: AbstractStore = DiskStore() if on_disk else MemoryStore()
    gram = np.zeros((layout.n_columns, layout.n_columns))
    sample = []
    for part in range(len(raw_store)):
        raw = np.asarray(raw_store.read(part))
        rows, weight = layout.standardise(raw[:, :-1]), raw[:, -1]
        gram += (rows * weight[:, None]).T @ rows
        inside = chosen[(chosen >= part * BLOCK_ROWS) & (chosen < part * BLOCK_ROWS + len(rows))]
        sample.append(np.column_stack([rows, weight])[inside - part * BLOCK_ROWS])
        packed = pack_rows(rows, weight)
        store.append(packed if on_disk else jnp.asarray(packed))
    gram /= moments.weight
    source = Source(store, n_rows, moments.weight)
    sampled = np.concatenate(sample)
    layout, dropped = _drop_aliased(layout, gram, moments, keep_aliased)
    typical, far = _typical_gram(layout, gram, sampled, moments)
    return Prepared(
        layout,
        source,
        _sample_source(source, sampled),
        sampled[:, :-1],
        sampled[:, -1],
        typical,
        (*dropped, *far),
    )


def _encode(
    table: Table,
    encoder: Encoder,
    design: RawDesign,
    n_components: int,
    forms: Sequence[Any],
    store: AbstractStore,
) -> RawMoments:
    """Keep raw rows with their weight, and their moments."""
    names = tuple(dict.fromkeys(v for d in encoder.designs for v in encoder.variables(d)))
    moments = RawMoments(len(design.names))
    distinct: set[bytes] = set()
    first = 0
    for frame in table.batches(names, BLOCK_ROWS):
        arrays = encoder.encode(frame, first_row=first)
        raw = raw_rows(encoder, design, arrays, len(frame))
        weight = arrays[WEIGHT][:, 0] if WEIGHT in arrays else np.ones(len(frame))
        _check_weight(weight, first)
        check_values(design, forms, raw, first)
        moments.add(raw, weight)
        if len(distinct) < n_components:
            distinct |= {row.tobytes() for row in np.unique(raw[weight > 0], axis=0)[:n_components]}
        store.append(np.column_stack([raw, weight]))
        first += len(frame)
    if not moments.weight:
        raise DataError("All rows have sample_weight 0; at least some must be positive.")
    if n_components > len(distinct):
        raise OptionError(
            f"n_components={n_components} is above the number of distinct rows, {len(distinct)}; "
            "ask for fewer clusters."
        )
    _check_responses(design, moments)
    return moments


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
                check_counts(f"trials={text!r}", trials[:, None], first)
            form.check(f"The response {form.title(part.names)!r}", own, trials, first)
        else:
            form.check(f"The covariate {part.names[0]!r}", own, first)


def _check_responses(design: RawDesign, moments: RawMoments) -> None:
    for part in design.parts:
        for name in part.names:
            if part.kind.startswith("response") and moments.constant[design.names.index(name)]:
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
        regressors = np.asarray(part.regressors, int)
        kept = independent_columns(gram[np.ix_(regressors, regressors)])
        if len(kept) < regressors.size and not keep.get(part.kind, False):
            lost = [t for i, t in enumerate(part.terms) if i not in kept]
            notes.append(
                f"The coefficients of {', '.join(map(repr, lost))} are not identified: constant, "
                "or a linear combination of the terms before. They are left out."
            )
            new = replace(new, regressors=select(part.regressors, kept), kept_terms=tuple(kept))
        if part.kind.startswith("covariates") and part.form.scaled:
            new, note = _drop_covariates(new, layout, gram, moments)
            notes += note
        parts.append(new)
    return replace(layout, parts=tuple(parts)), tuple(notes)


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
    layout: Layout, gram: np.ndarray, sampled: np.ndarray, moments: RawMoments
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Average products of rows that are not far outside the others in any column.

    One wild value would otherwise set the scale of the default prior.
    """
    rows, weight = sampled[:, :-1], sampled[:, -1]
    middle = np.median(rows, axis=0)
    reach = _FAR * np.median(np.abs(rows - middle), axis=0)
    reach[reach == 0] = np.inf
    named = []
    # Densities of columns on their own scale take nothing from it.
    scaled = [p for p in layout.parts if p.is_response or p.form.scaled]
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
    near = (np.abs(rows - middle) <= reach).all(axis=1) & (weight > 0)
    trimmed = (rows[near] * weight[near, None]).T @ rows[near] / weight[near].sum()
    note = (
        f"{', '.join(map(repr, dict.fromkeys(named)))} has values more than 20 robust standard "
        "deviations from its median; check them. They are fitted, but do not set the prior's scale."
    )
    usable = all(
        len(independent_columns(trimmed[np.ix_(c, c)])) == len(c)
        for c in (np.asarray((*p.regressors, *p.responses), int) for p in scaled)
    )
    return (trimmed if usable else gram), (note,)


def _sample_source(source: Source, sampled: np.ndarray) -> Source:
    """The sample as rows of its own; all rows where there are few.

    Where all rows are one block it has that block's shape, so that one program serves both.
    """
    if source.n_rows <= SAMPLE_ROWS:
        return source
    store = MemoryStore()
    shape = block_shape(source.n_rows if source.n_blocks == 1 else len(sampled))
    store.append(jnp.asarray(pack_rows(sampled[:, :-1], sampled[:, -1], shape)))
    return Source(store, len(sampled), float(sampled[:, -1].sum()))
