"""`clusterwise report` and `clusterwise compare`: what folders of fits hold, for a person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clusterwise.core.errors import FileError, OptionError
from clusterwise.output import FIT, REPORT, read_fit

_COLUMNS = {
    "engine": "engine",
    "n_components": "clusters",
    "n_parameters": "parameters",
    "log_likelihood": "log likelihood",
    "bic": "BIC",
    "icl": "ICL",
    "converged": "converged",
    "seconds": "seconds",
}
_SAME = ("formula", "n_rows", "covariates")


def run_report(folder: Path, data: Path | None, output: Path | None) -> None:
    """Write the report of a fit that is in a folder.

    Parameters
    ----------
    folder : Path
        What `clusterwise fit` wrote.
    data : Path or None
        The rows that were fitted, for plots of them.
    output : Path or None
        The file; by default report.html in the folder.
    """
    target = output or folder / REPORT
    read_fit(folder).report(target, data)
    print(f"Wrote {target}")


def run_compare(folders: Sequence[Path]) -> None:
    """Print fits side by side, and which of them the criteria prefer.

    Parameters
    ----------
    folders : sequence of Path
        What `clusterwise fit` wrote, two or more.
    """
    if len(folders) < 2:
        raise OptionError("compare needs two folders of fits or more.")
    fits = [_read(folder) for folder in folders]
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("fit", overflow="fold")
    for heading in _COLUMNS.values():
        table.add_column(heading, justify="right")
    for folder, fit in zip(folders, fits, strict=True):
        table.add_row(Text(str(folder)), *(Text(_cell(fit.get(key))) for key in _COLUMNS))
    console.print(table)
    console.print()
    for sentence in _advice(folders, fits):
        console.print(Text(sentence))


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / FIT).read_text(encoding="utf-8"))
        if "components" not in found:
            raise ValueError(FIT)
    except (OSError, ValueError, TypeError) as error:
        raise FileError(
            f"{str(folder)!r} holds no {FIT} of a fit; give folders that clusterwise fit wrote."
        ) from error
    return found


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    return "" if value is None else str(value)


def _advice(folders: Sequence[Path], fits: Sequence[dict[str, Any]]) -> list[str]:
    """What may be read out of the table, and what may not."""
    different = [key for key in _SAME if any(fit.get(key) != fits[0].get(key) for fit in fits)]
    if "n_rows" in different:
        return ["The fits have different numbers of rows: their criteria cannot be compared."]
    found = []
    if {"formula", "covariates"} & set(different):
        found.append(
            "The fits differ in formula or covariates: BIC and ICL compare them only where they "
            "model the same columns, responses and covariates together."
        )
    for key in ("bic", "icl"):
        known = [(fit[key], str(folder)) for folder, fit in zip(folders, fits, strict=True)
                 if isinstance(fit.get(key), (int, float))]  # fmt: skip
        if known:
            (least, best), *rest = sorted(known)
            gap = f", by {rest[0][0] - least:.2f}" if rest else ""
            found.append(f"{key.upper()} is least for {best}{gap}.")
    return found
