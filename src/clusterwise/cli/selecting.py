"""`clusterwise select`: from options to a table, a recommendation and a folder."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clusterwise.cli.fitting import read_formula
from clusterwise.core.errors import FileError, OptionError
from clusterwise.model import Model
from clusterwise.output import plain, write_fit
from clusterwise.selection.select import select
from clusterwise.selection.selection import Selection

SCHEMA = 1
SELECTION, CANDIDATES, BEST = "selection.json", "candidates", "best"
_USUAL = {"converged": True, "degenerate": False, "empty": 0}


@dataclass(frozen=True)
class Comparison:
    """What the options of `clusterwise select` ask for; `options` go to `Model` as they are."""

    data: Path
    formula: str
    components: str
    criterion: str
    covariates: list[str]
    covariance: list[str]
    family: list[str]
    folds: int
    replicates: int
    engine: str | None
    seed: int
    output: Path | None
    options: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Folder to write."""
        if self.output is not None:
            return self.output
        return Path(f"{self.data.name.split('.')[0] or 'data'}-select")

    def run(self, progress: bool) -> Selection:
        """Compare."""
        densities = [None if name.lower() == "none" else name for name in self.covariates]
        model = Model(
            read_formula(self.formula),
            family=self.family[0] if self.family else "gaussian",
            covariates=densities[0] if densities else None,
            **self.options,
        )
        return select(
            model,
            self.data,
            read_numbers(self.components),
            [name.strip() for name in self.criterion.split(",")],
            engine=self.engine,
            covariance_type=self.covariance or None,
            family=self.family or None,
            covariates=densities or None,
            n_folds=self.folds,
            n_replicates=self.replicates,
            random_state=self.seed,
            path=self.folder / CANDIDATES,
            progress=progress,
        )


def read_numbers(text: str) -> list[int]:
    """Numbers of clusters out of "1:8", "2,4,6" or "3".

    Raises
    ------
    OptionError
        Where the text is neither.
    """
    try:
        first, colon, last = text.partition(":")
        if colon:
            return list(range(int(first), int(last) + 1))
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise OptionError(
            f"-k {text!r} is not a range such as 1:8, nor a list such as 2,4,6."
        ) from None


def run_select(comparison: Comparison, *, quiet: bool) -> None:
    """Compare, print, and write.

    Parameters
    ----------
    comparison : Comparison
        The options.
    quiet : bool
        Whether to print nothing.
    """
    folder = comparison.folder
    _check_folder(folder)
    progress = sys.stderr.isatty() and not quiet
    found = comparison.run(progress)
    if not quiet:
        _print(found)
    write_fit(found.best, comparison.data, folder / BEST, seed=comparison.seed, progress=progress)
    text = json.dumps(_document(found, comparison), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / SELECTION).write_text(text + "\n", encoding="utf-8")
    if not quiet:
        print(f"\nWrote {SELECTION}, {CANDIDATES}/ and {BEST}/, the fit, to {folder}/")


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        return
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {""}
    if not names <= {SELECTION, CANDIDATES, BEST}:
        raise FileError(
            f"{str(folder)!r} exists and is not a selection's folder; choose another output or "
            "empty it."
        )


def _document(found: Selection, comparison: Comparison) -> dict[str, Any]:
    from clusterwise.core.version import __version__

    return plain(
        {
            "schema": SCHEMA,
            "version": __version__,
            "formula": comparison.formula,
            "criteria": list(found.criteria),
            "engine": found.best.engine,
            "seed": comparison.seed,
            "n_rows": found.best.n_rows,
            "best": found.fits.index(found.best),
            "n_components": found.best.n_components,
            "recommendation": found.recommendation,
            "candidates": found.table.to_dict(orient="records"),
        }
    )


def _print(found: Selection) -> None:
    console = Console(highlight=False)
    frame = found.table.drop(columns="seconds")
    usual = [name for name, value in _USUAL.items() if (frame[name] == value).all()]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    frame = frame.drop(columns=usual)
    for name in frame.columns:
        # Column names are data: their brackets are no markup.
        table.add_column(Text(str(name).replace("_", " ")), justify="right")
    for i, row in enumerate(frame.itertuples(index=False)):
        style = "bold" if found.fits[i] is found.best else ""
        table.add_row(*(Text(_cell(value), style=style) for value in row))
    console.print(table)
    console.print()
    console.print(Text(found.recommendation))


def _cell(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return "" if pd.isna(value) else f"{value:.2f}"
    return str(value)
