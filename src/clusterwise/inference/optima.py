"""Where the optima of a fit are, for modes that differ by more than the numbers of components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import pandas as pd

from clusterwise.assembly.layout import Layout
from clusterwise.assembly.units import in_data_units
from clusterwise.core.product_posterior import ProductParameters
from clusterwise.inference.estimates import Estimates

_OF_OPTIMUM = ("log_likelihood", "objective", "reached", "degenerate", "chosen", "finished")


def optima_table(
    layout: Layout, parameters: ProductParameters, restarts: Sequence[dict[str, Any]]
) -> pd.DataFrame:
    """Point estimates of every optimum, in the data's units and names.

    Parameters
    ----------
    layout
        Names and units.
    parameters
        Modes of the optima in standard units; arrays lead with (optimum, component).
    restarts
        What is known of each optimum, in the same order.

    Returns
    -------
    pandas.DataFrame
        One row for each (optimum, component), the optimum of highest objective first and its
        largest weight first. Columns: what `Fit.restarts` says of the optimum (log likelihood,
        objective, how many starts reached it, whether it is degenerate, chosen, finished on all
        rows), then of the component its weight, coefficients, sigma, and the means and standard
        deviations of the covariates.
    """
    values = in_data_units(layout, parameters)
    tables = []
    for number, known in enumerate(restarts):
        own = jax.tree.map(lambda leaf, i=number: leaf[i], values)
        table = Estimates(layout, own).table(None)
        for place, name in enumerate(_OF_OPTIMUM):
            table.insert(place, name, known[name])
        tables.append(table)
    return pd.concat(tables, keys=range(len(tables)), names=["optimum"])
