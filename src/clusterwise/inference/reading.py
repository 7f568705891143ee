"""New data as rows in a fit's standard units, and which of the model's blocks score them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from clusterwise.assembly.build import make_block
from clusterwise.assembly.grouping import check_gates, check_ids, numbers_of
from clusterwise.assembly.layout import Layout, RawDesign, raw_rows
from clusterwise.assembly.missing import Gaps, check_gaps
from clusterwise.assembly.prepare import WEIGHT, check_values, incomplete
from clusterwise.core.rows import BLOCK_ROWS
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.table import open_table

# A row that does not count is asked about all the same.
_LEAST = 1e-150


class RowReader(NamedTuple):
    """How a fit encodes and standardises rows."""

    encoder: Encoder
    design: RawDesign
    layout: Layout

    def blocks(self, *, response: bool) -> list[int]:
        """Blocks to score with: weights, densities, and the responses where asked for."""
        found = [0, *(i + 1 for i in self.layout.densities)]
        if response:
            found += [i + 1 for _, i in self.layout.responses]
        return sorted(found)

    def rows(
        self,
        data: Any,
        *,
        response: bool,
        regressors: bool,
        complete: Collection[str] = (),
        first: int = 0,
    ) -> Iterator[np.ndarray]:
        """Standardised rows (n, columns), block by block.

        Columns not asked for are zero; missing values, which `complete` designs may not have, are
        NaN. The first row has the number `first` in errors. Rows that share clusters are one block,
        in the order of `order`.
        """
        blocks = self._rows(data, response, regressors, complete, first)
        groups = self.layout.group_columns
        if groups is None:
            yield from blocks
            return
        rows = np.concatenate(list(blocks))
        ids = self._ids(data)
        check_gates(self.layout, rows, ids)
        numbers = numbers_of(ids)
        order = np.argsort(numbers, kind="stable")
        rows = rows[order]
        groups.mark(rows, self._weights(data, len(rows))[order], numbers[order])
        yield rows

    def _weights(self, data: Any, n_rows: int) -> np.ndarray:
        """How often each row (n,) counts in its group, where the data say so; never zero."""
        table = open_table(data)
        if WEIGHT not in self.encoder.designs:
            return np.ones(n_rows)
        columns = self.encoder.variables(WEIGHT)
        if not set(columns) <= set(table.names):
            return np.ones(n_rows)
        found, first = [], 0
        for frame in table.batches(columns, BLOCK_ROWS):
            found.append(self.encoder.encode(frame, [WEIGHT], first_row=first)[WEIGHT][:, 0])
            first += len(frame)
        return np.maximum(np.concatenate(found), _LEAST)

    def order(self, data: Any) -> np.ndarray | None:
        """Numbers (n,) of the rows as `rows` has them; None where that is the data's order."""
        if self.layout.groups is None:
            return None
        return np.argsort(self.group_numbers(data), kind="stable")

    def in_order(self, values: np.ndarray, data: Any, axis: int = 0) -> np.ndarray:
        """One value for each row of `rows`, in the data's order."""
        order = self.order(data)
        return values if order is None else np.take(values, np.argsort(order), axis=axis)

    def group_numbers(self, data: Any) -> np.ndarray:
        """Numbers (n,) of the groups of the rows, in the data's order."""
        return numbers_of(self._ids(data))

    def _ids(self, data: Any) -> list[pd.Series]:
        assert self.layout.groups is not None
        ids: list[pd.Series] = []
        first = 0
        for frame in open_table(data).batches((self.layout.groups,), BLOCK_ROWS):
            ids.append(cast(pd.Series, frame[self.layout.groups]))
            check_ids(ids[-1], self.layout.groups, first)
            first += len(frame)
        return ids

    def _rows(
        self, data: Any, response: bool, regressors: bool, complete: Collection[str], first: int
    ) -> Iterator[np.ndarray]:
        names = self._designs(response=response, regressors=regressors)
        may_miss = incomplete(names).difference(complete)
        used = self.blocks(response=response or regressors)
        blocks, gaps = make_block(self.layout).blocks, Gaps(len(self.design.names))
        table = open_table(data)
        columns = tuple(dict.fromkeys(v for d in names for v in self.encoder.variables(d)))
        for frame in table.batches(columns, BLOCK_ROWS):
            arrays = self.encoder.encode(frame, names, incomplete=may_miss, first_row=first)
            raw = raw_rows(self.encoder, self.design, arrays, len(frame))
            forms = [part.form for part in self.layout.parts]
            check_values(self.design, forms, raw, first, response=response)
            gaps.number(raw, np.ones(len(raw), bool), first)
            if gaps.any:
                check_gaps(self.layout, blocks, self.encoder, self.design, gaps, used)
            first += len(frame)
            yield self.layout.standardise(raw)

    def response_values(self, rows: np.ndarray, part: int) -> np.ndarray:
        """A response (n,) of standardised rows, in data units; of levels, their numbers."""
        return self.layout.response_values(rows, part)

    def is_ordered(self, part: int) -> bool:
        """Whether a response has quantiles."""
        return self.layout.parts[part].form.ordered

    def _designs(self, *, response: bool, regressors: bool) -> list[str]:
        found = [] if self.layout.gate is None else [self.layout.gate.kind]
        for i, part in enumerate(self.layout.parts):
            if not part.is_response:
                found.append(part.kind)
                continue
            if regressors:
                extras = (("offset", part.offset), ("trials", part.trials))
                found.append(f"regressors:{i}")
                found += [f"{what}:{i}" for what, column in extras if column is not None]
            if response:
                found.append(part.kind)
        return found
