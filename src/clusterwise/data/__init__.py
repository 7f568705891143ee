"""Small data sets for examples; README.md beside them names their sources."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from clusterwise.core.errors import OptionError

__all__ = ["NAMES", "load"]

NAMES = ("co2", "penguins")


def load(name: str) -> pd.DataFrame:
    """Read a data set that comes with the package.

    Parameters
    ----------
    name : {"co2", "penguins"}
        "co2": emissions of carbon dioxide against gross national product, 28 countries (Hurn,
        Justel and Robert 2003). "penguins": measurements of 333 Palmer penguins (Gorman,
        Williams and Fraser 2014).

    Returns
    -------
    pandas.DataFrame
        One row a country or a penguin.

    Raises
    ------
    OptionError
        If there is no such data set.

    Examples
    --------
    >>> from clusterwise.data import load
    >>> load("co2").shape
    (28, 3)
    """
    if name not in NAMES:
        raise OptionError(
            f"there is no data set {name!r}; there are {', '.join(map(repr, NAMES))}."
        )
    return pd.read_csv(Path(__file__).with_name(f"{name}.csv"))
