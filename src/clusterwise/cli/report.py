"""A fit as tables for a person."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from clusterwise.fit import Fit

_OPTIMA = 8
_SPREAD = " (sd)"


def print_fit(fit: Fit) -> None:
    """Print components, optima and notes, at the width of the terminal.

    Parameters
    ----------
    fit : Fit
        The fit.
    """
    console = Console(highlight=False)
    summary = fit.summary()
    console.print(Text(summary.title, style="bold"))
    for fact in _facts(fit):
        console.print(Text(fact))
    labels, cells = _cells(summary.table)
    shown = [int(k) for k in np.flatnonzero(fit.weights.to_numpy() * fit.n_rows >= 1)]
    for some in _groups(console.width, labels, cells, shown):
        console.print()
        console.print(_component_table(labels, cells, some))
    if any(_SPREAD in column for column in summary.table.columns):
        console.print(Text("In brackets: standard deviations of the posterior.", style="dim"))
    if len(fit.restarts) > 1:
        console.print()
        console.print(_optima_table(fit.restarts))
    notes = list(summary.notes)
    if len(shown) < fit.n_components:
        notes.append(
            f"{fit.n_components - len(shown)} components with less than one row are not shown; "
            "fit.json has them."
        )
    if notes:
        console.print()
    for note in notes:
        console.print(Text(f"Note: {note}"))


def print_rows(frame: pd.DataFrame) -> None:
    """Print a small data frame.

    Parameters
    ----------
    frame : DataFrame
        Few rows.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in frame.columns:
        table.add_column(Text(str(name)), justify="right")
    for _, row in frame.iterrows():
        whole = [float(v).is_integer() and name == "row" for name, v in row.items()]
        table.add_row(
            *(Text(f"{v:.0f}" if w else f"{v:.5g}") for v, w in zip(row, whole, strict=True))
        )
    Console(highlight=False).print(table)


def _facts(fit: Fit) -> list[str]:
    chosen = next(o for o in fit.restarts.to_dict(orient="records") if o["chosen"])
    ended = "converged" if fit.converged else "NOT converged"
    return [
        f"{fit.n_rows} rows, {fit.n_parameters} parameters",
        f"log likelihood {fit.log_likelihood:.4f}, BIC {fit.bic:.2f}, ICL {fit.icl:.2f}",
        f"{fit.engine}: {ended} after {fit.n_iter} iterations in {fit.seconds:.1f} s",
        f"{chosen['reached']} of {chosen['starts']} starts ended in this optimum",
    ]


def _cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Labels of the quantities, and for each its text in every component."""
    labels = [name for name in table.columns if not name.endswith(_SPREAD)]
    cells = []
    for label in labels:
        spread = table.get(label + _SPREAD)
        values = table[label].to_numpy()
        deviations = np.full(len(values), np.nan) if spread is None else spread.to_numpy()
        cells.append([_number(v, s) for v, s in zip(values, deviations, strict=True)])
    return labels, cells


def _number(value: float, deviation: float = math.nan) -> str:
    """Five digits, or with a standard deviation as many as that has in two."""
    if not math.isfinite(deviation) or deviation <= 0:
        return f"{value:.5g}"
    decimals = 1 - math.floor(math.log10(deviation))
    if abs(value) >= 1e7 or decimals > 7:
        return f"{value:.5g} ({deviation:.2g})"
    places = max(decimals, 0)
    return f"{value:.{places}f} ({deviation:.{places}f})"


def _groups(
    width: int, labels: list[str], cells: list[list[str]], shown: list[int]
) -> list[list[int]]:
    """Components that fit beside one another."""
    name_width = max(len(label) for label in labels)
    column = max([11 + 2, *(len(row[k]) + 2 for row in cells for k in shown)])
    fitting = max(1, (width - name_width - 4) // column)
    return [shown[i : i + fitting] for i in range(0, len(shown), fitting)]


def _component_table(labels: list[str], cells: list[list[str]], some: list[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("", overflow="fold")
    for k in some:
        table.add_column(f"component {k}", justify="right", no_wrap=True)
    for label, row in zip(labels, cells, strict=True):
        # Column names are data: their brackets are no markup.
        table.add_row(Text(label), *(Text(row[k]) for k in some))
    return table


def _optima_table(restarts: pd.DataFrame) -> Padding:
    optima = restarts.to_dict(orient="records")
    rest = len(optima) - _OPTIMA
    shown = optima[:_OPTIMA]
    if not any(optimum["chosen"] for optimum in shown):
        shown[-1] = next(optimum for optimum in optima if optimum["chosen"])
    table = Table(
        title=f"Optima that {optima[0]['starts']} starts ended in",
        title_justify="left",
        title_style="",
        caption=f"and {rest} more; fit.json has them." if rest > 0 else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        show_edge=False,
    )
    table.add_column("log likelihood", justify="right", no_wrap=True)
    table.add_column("starts", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for optimum in shown:
        remarks = ["chosen"] if optimum["chosen"] else []
        remarks += [f"degenerate: {optimum['reason']}"] if optimum["degenerate"] else []
        table.add_row(
            f"{optimum['log_likelihood']:.4f}", str(optimum["reached"]), Text("; ".join(remarks))
        )
    return Padding(table, 0)
