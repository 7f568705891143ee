"""What a page needs to predict by itself: inputs, columns, clusters and regressions, as JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clusterwise.assembly.layout import INTERCEPT
from clusterwise.frames.table import open_table

if TYPE_CHECKING:
    from clusterwise.fit import Fit

_ROWS = 10_000


def calculator(fit: Fit, data: Any = None) -> dict[str, Any]:
    """Everything for predictions of new rows, as plain JSON values.

    Parameters
    ----------
    fit : Fit
        The fit.
    data : frame or path, optional
        Rows whose medians and commonest levels are where the inputs start.

    Returns
    -------
    dict
        "inputs" to be entered; "columns", the standardised ones by what they are products of;
        "responses"; "memberships" and "weights", the forms that clusters are probable by, as
        `Fit.responsibilities` and `Fit.predict` have it.

    Raises
    ------
    OptionError
        Where the model has a part that the page cannot compute.
    """
    layout, encoder = fit.reader.layout, fit.reader.encoder
    products = _products(fit)
    columns = [
        {"shift": column.shift, "scale": column.scale, "product": products[name]}
        if (name := layout.raw_names[column.raw]) in products
        else None
        for column in layout.columns
    ]
    names = dict.fromkeys(
        variable
        for design in encoder.designs
        if not design.startswith(("response", "weight"))
        for variable in encoder.variables(design)
    )
    starts = _starts(data, list(names)) if data is not None else {}
    return {
        "inputs": [_input(name, encoder.levels(name), starts) for name in names],
        "columns": columns,
        "components": fit.n_components,
        "memberships": _packed(fit.memberships.as_numbers(fit.reader.blocks(response=False))),
        "weights": _packed(fit.predictive.as_numbers()),
        "responses": [_response(fit, name, part) for name, part in layout.responses],
    }


def _products(fit: Fit) -> dict[str, list[Any]]:
    """For each raw column that is not a response, the operands that it is a product of."""
    encoder, found = fit.reader.encoder, {}
    for part in fit.reader.design.every:
        for design, names in part.designs():
            if design.startswith("response"):
                continue
            # Of levels, as for the rows themselves, the last columns count.
            own = encoder.products(design)[-len(names) :]
            for name, product in zip(names, own, strict=True):
                if name != INTERCEPT:
                    found[name] = [
                        factor.as_lists()
                        if level is None
                        else ["level", factor.variables[0], level]
                        for factor, level in product
                    ]
    return found


def _input(name: str, levels: Any, starts: Mapping[str, Any]) -> dict[str, Any]:
    if levels is None:
        return {"name": name, "start": float(starts.get(name, 0.0))}
    start = list(levels).index(starts[name]) if starts.get(name) in levels else 0
    return {"name": name, "levels": [str(level) for level in levels], "start": start}


def _starts(data: Any, names: list[str]) -> dict[str, Any]:
    """Median, or commonest level, of some rows of each column."""
    frame = next(iter(open_table(data).batches(names, _ROWS)))
    found = {}
    for name in names:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            found[name] = float(f"{np.nanmedian(column):.4g}")
        else:
            found[name] = column.mode().iloc[0]
    return found


def _response(fit: Fit, name: str, number: int) -> dict[str, Any]:
    layout = fit.reader.layout
    part = layout.parts[number]
    column = part.responses[0]
    return {
        "name": name,
        "levels": list(part.names) if part.form.by_level else None,
        "link": part.form.mean_link,
        "regressors": list(part.regressors),
        "predictors": part.form.n_predictors(len(part.responses)),
        "offset": part.offset,
        "trials": part.trials,
        "shift": layout.shift_of(column),
        "scale": layout.scale_of(column),
        "coefficients": _packed(fit.predictive.coefficients(number)),
    }


def _packed(value: Any) -> Any:
    """Arrays as text: 64-bit numbers in base 64, with their shape."""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value, dtype="<f8")
        text = base64.b64encode(array.tobytes()).decode("ascii")
        return {"shape": list(array.shape), "numbers": text}
    if isinstance(value, Mapping):
        return {key: _packed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_packed(item) for item in value]
    return value
