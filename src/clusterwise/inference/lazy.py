"""Variables of an xarray data set that are computed when their values are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

Compute = Callable[[np.ndarray, np.ndarray], np.ndarray]


class LazyDraws(BackendArray):
    """An array (chain, draw, row) of which only what is asked for is computed.

    Parameters
    ----------
    shape
        Chains, draws of each, rows.
    compute
        From numbers of draws (d,), counted through all chains, and of rows (m,) to values (d, m).
    draws_at_a_time
        How many draws one call is given at most.
    """

    def __init__(self, shape: tuple[int, int, int], compute: Compute, draws_at_a_time: int) -> None:
        self.shape = shape
        self.dtype = np.dtype(float)
        self._compute = compute
        self._step = draws_at_a_time

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._outer
        )

    def _outer(self, key: tuple[Any, ...]) -> np.ndarray:
        pairs = zip(self.shape, key, strict=True)
        chains, draws, rows = (np.atleast_1d(np.arange(size)[own]) for size, own in pairs)
        numbers = (chains[:, None] * self.shape[1] + draws).ravel()
        values = np.empty((numbers.size, rows.size))
        for i in range(0, numbers.size, self._step):
            values[i : i + self._step] = self._compute(numbers[i : i + self._step], rows)
        values = values.reshape(chains.size, draws.size, rows.size)
        return values[
            tuple(
                0 if np.ndim(own) == 0 and not isinstance(own, slice) else slice(None)
                for own in key
            )
        ]


class _Computed(BackendEntrypoint):
    """Opens data sets of lazy variables, so that xarray reads them as it reads files."""

    open_dataset_parameters = ("filename_or_obj", "drop_variables")

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: Any = None) -> xr.Dataset:
        return filename_or_obj


def lazy_dataset(
    arrays: Mapping[str, LazyDraws],
    dims: tuple[str, str, str],
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Data set whose variables are computed at first use and kept from then on.

    Parameters
    ----------
    arrays
        Variables by name, all of one shape.
    dims
        Names of their dimensions.
    coords
        Labels of the dimensions.
    attrs
        Attributes of the data set.
    """
    variables = {
        name: xr.Variable(dims, indexing.LazilyIndexedArray(array))
        for name, array in arrays.items()
    }
    dataset = xr.Dataset(variables, coords=dict(coords), attrs=dict(attrs))
    return xr.open_dataset(dataset, engine=_Computed)  # pyright: ignore[reportArgumentType]
