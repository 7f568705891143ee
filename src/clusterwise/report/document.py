"""The page: sections from a fit, put into one file that loads nothing."""

from __future__ import annotations

import json
import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from clusterwise.core.errors import FileError, OptionError
from clusterwise.core.version import __version__
from clusterwise.plots.rows import shown_rows
from clusterwise.report.calculator import calculator
from clusterwise.report.figures import figures
from clusterwise.report.tables import Table, described, table_of
from clusterwise.report.words import answer, differences, joined

if TYPE_CHECKING:
    from clusterwise.fit import Fit

__all__ = ["write_report"]

_ROWS = 20_000


def write_report(
    fit: Fit, path: str | os.PathLike[str], data: Any = None, *, selection: Any = None
) -> None:
    """Write a fit as one HTML page that needs no network and no other file.

    Parameters
    ----------
    fit : Fit
        The fit.
    path : path
        The file, which is replaced.
    data : frame or path, optional
        The rows that were fitted. Without them the page has no plots of rows and no description
        of the data.
    selection : Selection, optional
        The comparison of models that the fit was chosen from.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    text = page(fit, data, selection=selection)
    target = Path(path)
    try:
        # In the same folder, so that a report that is there is replaced as a whole.
        descriptor, scratch = tempfile.mkstemp(prefix=".clusterwise-", dir=target.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(scratch, 0o644)
        os.replace(scratch, target)
    except OSError as error:
        raise FileError(
            f"Cannot write the report {str(target)!r} ({error.strerror}); choose a folder that "
            "exists and can be written."
        ) from error


def page(fit: Fit, data: Any = None, *, selection: Any = None) -> str:
    """The page as text; parameters as for `write_report`."""
    from jinja2 import Environment, select_autoescape
    from markupsafe import Markup

    own = files("clusterwise.report")
    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True)
    template = environment.from_string((own / "page.html").read_text(encoding="utf-8"))
    rows = None if data is None else shown_rows(fit, data, most=_ROWS).frame
    probabilities = None if rows is None else fit.responsibilities(rows)
    drawn = figures(fit, rows, selection)
    model, why = _model(fit, rows)
    found = {
        "version": __version__,
        "style": Markup((own / "page.css").read_text(encoding="utf-8")),
        "script": Markup((own / "page.js").read_text(encoding="utf-8")),
        "title": fit.summary().title,
        "answer": answer(fit, probabilities),
        "apart": [joined(items) for items in differences(fit)],
        "clusters": _clusters(fit),
        "notes": fit.notes,
        "model": Markup(model) if model else "",
        "why_no_panel": why,
        "figures": drawn,
        "facts": fit.summary().facts,
        "diagnostics": _diagnostics(fit),
        "choice": _choice(fit, selection),
        "restarts": _restarts(fit),
        "selection": None if selection is None else _selection(selection),
        "columns": None if data is None else _columns(fit, data),
        "code": _code(fit),
    }
    contents = [("answer", "Answer"), ("clusters", "Clusters")]
    contents += [("try", "Try it")] if model or why else []
    contents += [("plots", "Plots")] if drawn else []
    contents += [("diagnostics", "Can it be trusted?"), ("choice", "Other answers")]
    contents += [("data", "Data")] if data is not None else []
    contents += [("reproduce", "How to reproduce")]
    return template.render(contents=contents, **found)


def _used(fit: Fit) -> list[str]:
    """Columns of the data that the model uses."""
    encoder = fit.reader.encoder
    return list(dict.fromkeys(v for d in encoder.designs for v in encoder.variables(d)))


def _model(fit: Fit, rows: Any) -> tuple[str, str]:
    """The model as JSON that may stand in a script element; or why there is none."""
    if not fit.reader.encoder.designs:
        return "", ""
    try:
        text = json.dumps(calculator(fit, rows), allow_nan=True, ensure_ascii=True)
    except OptionError as error:
        return "", f"{error} Use clusterwise predict for new rows."
    return text.replace("<", "\\u003c").replace("Infinity", "1e999"), ""


def _clusters(fit: Fit) -> Table:
    frame = fit.summary().table.T
    frame.columns = [f"cluster {k}" for k in frame.columns]
    return table_of("clusters-table", "Estimates of every cluster", frame, "estimate")


def _diagnostics(fit: Fit) -> Table | None:
    if not fit.has_chains:
        return None
    return table_of("diagnostics-table", "Convergence of the chains", fit.diagnostics, "quantity")


def _restarts(fit: Fit) -> Table:
    frame = fit.restarts.drop(columns="starts")
    caption = "Optima that the starts ended in, the chosen one marked"
    return table_of("restarts-table", caption, frame, "optimum")


def _choice(fit: Fit, selection: Any) -> list[str]:
    found = [] if selection is None else [str(selection.recommendation)]
    found.append(
        "A mixture's likelihood has many maxima; each start climbs to one of them. BIC "
        f"{fit.bic:.2f} and ICL {fit.icl:.2f} compare this model with others fitted to the same "
        "rows: smaller is better."
    )
    return found


def _selection(selection: Any) -> Table:
    caption = "Models that were compared"
    return table_of("selection-table", caption, pd.DataFrame(selection.table), "model")


def _columns(fit: Fit, data: Any) -> Table:
    frame = described(data, _used(fit))
    return table_of("data-table", "Columns that the model uses", frame, "column")


def _code(fit: Fit) -> str:
    return (
        f"import clusterwise as cw\n\nmodel = cw.{fit.model!r}\n"
        f"fit = model.fit(data, engine={fit.engine!r}, random_state=0)"
    )
