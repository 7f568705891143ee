"""Which columns of a row a part of the model is about."""

from __future__ import annotations

from typing import NamedTuple


class PartColumns(NamedTuple):
    """Columns of a row, by their numbers; `offset` and `trials` only where a response has them."""

    regressors: tuple[int, ...]
    responses: tuple[int, ...]
    offset: int | None = None
    trials: int | None = None
