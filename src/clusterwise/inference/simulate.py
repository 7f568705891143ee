"""The generative story: a cluster, then its covariates, then the responses given both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from clusterwise.assembly.layout import GATES, ResponseSpec
from clusterwise.core.errors import DataError, OptionError
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.formula import parse
from clusterwise.frames.table import check_columns, open_table
from clusterwise.inference.truth import Truth, finite_array

LABEL = "component"
_BATCH = 65_536


def simulate(
    responses: Sequence[ResponseSpec],
    truth: Truth,
    n: int | None,
    rng: np.random.Generator,
    data: Any = None,
    encoder: Encoder | None = None,
    groups: str | None = None,
    gating: str | None = None,
) -> pd.DataFrame:
    """Draw rows from a model.

    Parameters
    ----------
    responses : sequence of ResponseSpec
        Right side, family, offset and trials of each response.
    truth : Truth
        What to simulate from.
    n : int or None
        Number of rows; None for as many as `data` has.
    rng : numpy.random.Generator
        Where randomness comes from.
    data : frame, optional
        Columns that the regressions need and no density gives.
    encoder : Encoder, optional
        Codes the regressors as a fit did; by default they are coded anew.
    groups : str, optional
        Column of the data whose rows of one value are given one cluster.
    gating : str, optional
        Right side of what weights depend on.

    Returns
    -------
    pandas.DataFrame
        Covariates, responses, and "component".

    Raises
    ------
    DataError, OptionError
        Where parameters do not fit the model or columns are missing.
    """
    designs = _designs(responses, gating)
    frame = _given(designs, responses, truth.made, data, n, rng, groups)
    if frame is None:
        if n is None:
            raise OptionError("n=None takes as many rows as data has; give n, or data=.")
        frame = pd.DataFrame(index=range(_whole(n)))
    rows = len(frame)
    if gating is None:
        labels = rng.choice(truth.weights.size, size=rows, p=truth.weights)
    else:
        labels = _gated_labels(truth, gating, encoder, frame, rng)
    if groups is not None:
        # The first row of each group speaks for all.
        codes = pd.factorize(frame[groups])[0]
        labels = labels[np.unique(codes, return_index=True)[1]][codes]
    columns: dict[str, np.ndarray] = {}
    if truth.densities:
        noise = rng.normal(size=(rows, len(truth.densities)))
        factors = np.linalg.cholesky(truth.covariances)[labels]
        drawn = truth.means[labels] + np.einsum("nij,nj->ni", factors, noise)
        columns = dict(zip(truth.densities, drawn.T, strict=True))
    for name, (known, probabilities) in truth.levels.items():
        below = np.cumsum(probabilities, axis=1)[labels, :-1] <= rng.random((rows, 1))
        columns[name] = np.asarray(known)[below.sum(axis=1)]
    for name, (density, own) in truth.profiles.items():
        each = {what: value[labels] for what, value in own.items()}
        columns[name] = density.distribution(each).rvs(random_state=rng)
    frame = frame.assign(**columns, **{LABEL: labels})
    if encoder is None:
        encoder = Encoder.fit(open_table(frame), _designs(responses))
    outcomes: dict[str, np.ndarray] = {}
    for i, response in enumerate(responses):
        name, family = response.name, response.family
        coefficients = _coefficients(truth, name, encoder.columns(f"regressors:{i}"))
        predictors = np.stack(
            [
                component_means(encoder, i, own, frame)[np.arange(rows), labels]
                for own in np.moveaxis(coefficients, -1, 0)
            ]
        )
        if response.offset is not None:
            predictors[0] += encoder.encode(frame, [f"offset:{i}"])[f"offset:{i}"][:, 0]
        trials = None
        if response.trials is not None:
            trials = encoder.encode(frame, [f"trials:{i}"])[f"trials:{i}"][:, 0]
        dispersion = {key: value[labels] for key, value in truth.dispersion[name].items()}
        outcomes[name] = family.draw(predictors, dispersion, trials, rng)
    return frame.drop(columns=LABEL).assign(**outcomes, **{LABEL: labels})


def _gated_labels(
    truth: Truth,
    gating: str,
    encoder: Encoder | None,
    frame: pd.DataFrame,
    rng: np.random.Generator,
) -> np.ndarray:
    """A cluster for each row, by weights that depend on the row."""
    encoder = encoder or Encoder.fit(open_table(frame), {GATES: gating})
    terms = encoder.columns(GATES)
    k = truth.weights.size
    values = truth.gates
    if isinstance(values, pd.DataFrame) and sorted(map(str, values.columns)) == sorted(terms):
        values = values[list(terms)].to_numpy()
    what = f"gates, one column for each of {', '.join(terms)},"
    if truth.sticks is None:
        gates = finite_array(what, values, (k, len(terms)))
    else:
        # The last stick takes what is left, whatever is said of it.
        whole = np.shape(values)[:1] == (k,)
        order = np.argsort(truth.sticks)[:-1]
        gates = finite_array(
            what, np.asarray(values)[order] if whole else values, (k - 1, len(terms))
        )
    labels = np.empty(len(frame), int)
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        eta = encoder.encode(part, [GATES], first_row=start)[GATES] @ gates.T
        uniform = rng.random((len(part), 1))
        if truth.sticks is None:
            share = np.exp(eta - eta.max(axis=1, keepdims=True))
            below = np.cumsum(share, axis=1) <= uniform * share.sum(axis=1, keepdims=True)
            labels[start : start + _BATCH] = below[:, :-1].sum(axis=1)
        else:
            left = np.cumprod(expit(-eta), axis=1)
            place = (1 - left <= uniform).sum(axis=1)
            labels[start : start + _BATCH] = np.argsort(truth.sticks)[place]
    return labels


def _designs(responses: Sequence[ResponseSpec], gating: str | None = None) -> dict[str, str]:
    """Right sides of what clusters and responses are drawn from."""
    found = {} if gating is None else {GATES: gating}
    for i, response in enumerate(responses):
        found[f"regressors:{i}"] = response.right
        for what, text in (("offset", response.offset), ("trials", response.trials)):
            if text is not None:
                found[f"{what}:{i}"] = f"0 + {text}"
    return found


def component_means(
    encoder: Encoder, response: int, coefficients: np.ndarray, frame: pd.DataFrame
) -> np.ndarray:
    """Each cluster's regression at some rows.

    Parameters
    ----------
    encoder : Encoder
        Codes the regressors.
    response : int
        Number of the response.
    coefficients : ndarray
        (k, p), in data units.
    frame : DataFrame
        The rows.

    Returns
    -------
    ndarray
        (n, k).
    """
    design = f"regressors:{response}"
    found = np.empty((len(frame), coefficients.shape[0]))
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        rows = encoder.encode(part, [design], first_row=start)[design]
        found[start : start + _BATCH] = rows @ coefficients.T
    return found


def _given(
    designs: Mapping[str, str],
    responses: Sequence[ResponseSpec],
    densities: Sequence[str],
    data: Any,
    n: int | None,
    rng: np.random.Generator,
    groups: str | None,
) -> pd.DataFrame | None:
    """The columns that no density gives, as rows to use as they are or to sample from."""
    variables = [v for right in designs.values() for v in parse(right, response=False).variables]
    variables += [] if groups is None else [groups]
    needed = [v for v in dict.fromkeys(variables) if v not in densities]
    made = [*needed, *densities, *(response.name for response in responses)]
    if LABEL in made:
        raise DataError(f"the column {LABEL!r} is taken by the cluster; rename yours.")
    if data is None:
        if needed:
            raise DataError(
                f"the model needs {', '.join(map(repr, needed))}, which no density of the "
                "covariates gives; give rows with these columns as data."
            )
        return None
    table = open_table(data)
    check_columns(needed, table.names)
    batches = list(table.batches(needed, _BATCH))
    frame = pd.concat(batches, ignore_index=True) if batches else pd.DataFrame()
    if not len(frame):
        raise DataError("data has no rows to take regressors from.")
    if n is None or n == len(frame):
        return frame
    return frame.iloc[rng.integers(len(frame), size=_whole(n))].reset_index(drop=True)


def _whole(n: Any) -> int:
    whole = isinstance(n, (int, np.integer)) and not isinstance(n, bool)
    if not whole or n < 1:
        raise OptionError(f"n={n!r} must be a whole number of rows, at least 1.")
    return int(n)


def _coefficients(truth: Truth, name: str, terms: Sequence[str]) -> np.ndarray:
    """Coefficients (k, p, m) in the order of the design's columns."""
    value = truth.coefficients[name]
    if isinstance(value, pd.DataFrame) and sorted(map(str, value.columns)) == sorted(terms):
        value = value[list(terms)]
    what = f"coefficients of {name!r}, one column for each of {', '.join(terms)},"
    shape = (truth.weights.size, len(terms), *np.shape(value)[2:3])
    found = finite_array(what, value, shape)
    return found if found.ndim == 3 else found[:, :, None]
