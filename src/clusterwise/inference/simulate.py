"""The generative story: a cluster, then its covariates, then the responses given both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from clusterwise.assembly.build import Specification
from clusterwise.assembly.layout import GATES, ResponseSpec
from clusterwise.core.errors import DataError, OptionError
from clusterwise.covariates.density import AbstractColumnDensity, AbstractDensity
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.formula import parse
from clusterwise.frames.table import check_columns, open_table
from clusterwise.inference.estimates import Estimates

LABEL = "component"
_SUM = 1e-6
_BATCH = 65_536


@dataclass(frozen=True)
class Truth:
    """Parameters to simulate from, in data units.

    `weights` (k,); for each response by name `coefficients` (k, p), or (k, p, m) with m predictors,
    whose shape is checked when they meet their design, and dispersions (k,) by their names;
    `means` (k, d) and `covariances` (k, d, d) of the columns `densities`; `levels` the levels of
    each categorical covariate with their probabilities (k, levels); `profiles` the density of each
    other covariate with its parameters (k,) by name. Of weights that depend on
    covariates, `gates` (k, p), which are checked when they meet their design, and for sticks the
    place (k,) of each cluster's; `weights` are then averages and not used.
    """

    weights: np.ndarray
    coefficients: Mapping[str, Any]
    dispersion: Mapping[str, Mapping[str, np.ndarray]]
    densities: tuple[str, ...]
    means: np.ndarray
    covariances: np.ndarray
    levels: Mapping[str, tuple[Sequence[Any], np.ndarray]]
    profiles: Mapping[str, tuple[AbstractColumnDensity, Mapping[str, np.ndarray]]]
    gates: Any = None
    sticks: np.ndarray | None = None

    @property
    def made(self) -> tuple[str, ...]:
        """Covariates that the model gives."""
        return (*self.densities, *self.levels, *self.profiles)


def estimated_truth(estimates: Estimates, known: Callable[[str], Sequence[Any] | None]) -> Truth:
    """A fit's point estimates as parameters to simulate from.

    Parameters
    ----------
    estimates : Estimates
        The point estimates.
    known : callable
        Levels of a column by its name, as the data have them.

    Returns
    -------
    Truth
        The parameters as arrays.
    """
    values, responses = estimates.values, estimates.layout.responses
    means = estimates.means()
    return Truth(
        values.weights / values.weights.sum(),
        {name: values.parts[i].coefficients for name, i in responses},
        {name: values.parts[i].dispersion for name, i in responses},
        tuple(means.columns),
        means.to_numpy(),
        np.stack([covariance.to_numpy() for covariance in estimates.covariances()]),
        {
            name: (list(known(name) or ()), frame.to_numpy())
            for name, frame in estimates.levels().items()
        },
        {
            part.title: (part.form, values.parts[i].single or {})
            for i, part in enumerate(estimates.layout.parts)
            if part.parameter_names
        },
        values.gates,
        values.sticks,
    )


def density_columns(spec: Specification) -> tuple[str, ...]:
    """Names of the columns that the covariate density gives, as it names them.

    Parameters
    ----------
    spec : Specification
        The model.

    Returns
    -------
    tuple of str
        Such as ``("x1", "log(x2)")``.
    """
    found = []
    for density in spec.densities:
        if not density.jointly:
            continue
        terms = parse(density.formula, response=False).terms
        found += [":".join(factor.name for factor in term) for term in terms if term]
    return tuple(found)


def read_truth(spec: Specification, params: Any) -> Truth:
    """Check a user's parameters.

    Parameters
    ----------
    spec : Specification
        The model.
    params : mapping
        "weights" (k,), or "gates" (k, p) of weights that depend on covariates, those of
        stick-breaking (k - 1, p), clusters in the order of their sticks; with responses
        "coefficients" (k, p) and "sigma" (k,), or dictionaries of them by response; with
        covariates "means" (k, d) and "covariances" (k, d, d) of Gaussian ones, "levels" of
        categorical ones, "profiles" of others: parameters (k,) by column and name.

    Returns
    -------
    Truth
        The parameters as arrays.

    Raises
    ------
    OptionError
        Where they do not fit the model.
    """
    densities = density_columns(spec)
    gated = spec.weights.gating is not None
    needed = ["gates" if gated else "weights"]
    needed += ["coefficients"] if spec.responses else []
    named = [name for r in spec.responses for name in r.family.dispersion_names]
    needed += dict.fromkeys(named)
    one_column = [(_column(d), d) for d in spec.densities if not d.jointly]
    categorical = [name for name, density in one_column if density.by_level]
    single = {name: d for name, d in one_column if isinstance(d, AbstractColumnDensity)}
    needed += ["levels"] if categorical else []
    needed += ["profiles"] if single else []
    needed += ["means", "covariances"] if densities else []
    listed = ", ".join(map(repr, needed))
    if not isinstance(params, Mapping):
        raise OptionError(
            f"params must be a fit or a dictionary with {listed}, not {type(params).__name__}."
        )
    missing = [key for key in needed if key not in params]
    unknown = [repr(key) for key in params if key not in needed]
    if missing or unknown:
        wrong = f"lacks {missing[0]!r}" if missing else f"has {', '.join(unknown)} too many"
        raise OptionError(f"params {wrong}; this model takes {listed}.")
    k, d = spec.n_components, len(densities)
    sticks = np.arange(k) if gated and spec.weights.truncated else None
    weights = np.full(k, 1 / k) if gated else _array("weights", params["weights"], (k,))
    if np.any(weights < 0) or abs(weights.sum() - 1) > _SUM:
        raise OptionError(
            f"params: weights must not be negative and must sum to 1, not to {weights.sum():g}."
        )
    dispersion: dict[str, dict[str, np.ndarray]] = {r.name: {} for r in spec.responses}
    for what in dict.fromkeys(named):
        own = [r.name for r in spec.responses if what in r.family.dispersion_names]
        for name, value in _by_response(params.get(what), what, own).items():
            family = next(r.family for r in spec.responses if r.name == name)
            shape = (k, *np.shape(value)[1:]) if family.by_level else (k,)
            each = np.broadcast_to(value, (k,)) if np.ndim(value) == 0 else value
            dispersion[name][what] = _array(f"{what} of {name!r}", each, shape)
            if np.any(dispersion[name][what] < 0):
                raise OptionError(f"params: {what} of {name!r} must not be negative.")
    return Truth(
        weights / weights.sum(),
        _by_response(params.get("coefficients"), "coefficients", [r.name for r in spec.responses]),
        dispersion,
        densities,
        _array("means", params["means"], (k, d)) if d else np.zeros((k, 0)),
        _covariances(params["covariances"], k, d) if d else np.zeros((k, 0, 0)),
        _levels(params["levels"], categorical, k) if categorical else {},
        _profiles(params["profiles"], single, k) if single else {},
        params.get("gates"),
        sticks,
    )


def _column(density: AbstractDensity) -> str:
    """The column that a density of one column is of."""
    return parse(density.formula, response=False).variables[0]


def _profiles(
    value: Any, densities: Mapping[str, AbstractColumnDensity], k: int
) -> dict[str, tuple[AbstractColumnDensity, Mapping[str, np.ndarray]]]:
    """Parameters of covariates: for each column a mapping from name to one number a cluster."""
    if not isinstance(value, Mapping) or sorted(value) != sorted(densities):
        raise OptionError(
            "params['profiles'] must be a mapping from each of "
            f"{', '.join(map(repr, densities))} to its parameters."
        )
    found = {}
    for name, density in densities.items():
        given, names = value[name], density.parameter_names
        if not isinstance(given, (Mapping, pd.DataFrame)) or sorted(given) != sorted(names):
            raise OptionError(
                f"params['profiles'][{name!r}] must be a mapping with "
                f"{', '.join(map(repr, names))}."
            )
        own = {what: _array(f"{what} of {name!r}", given[what], (k,)) for what in names}
        # SciPy's support is NaN where parameters are outside of their range.
        if np.isnan(np.asarray(density.distribution(own).support(), float)).any():
            raise OptionError(f"params['profiles'][{name!r}]: a parameter is out of its range.")
        found[name] = (density, own)
    return found


def _levels(
    value: Any, names: Sequence[str], k: int
) -> dict[str, tuple[Sequence[Any], np.ndarray]]:
    """Probabilities of levels: for each column a mapping from level to one number a cluster."""
    found = {}
    for name, own in _by_response(value, "levels", names).items():
        if not isinstance(own, (Mapping, pd.DataFrame)):
            raise OptionError(
                f"params['levels'][{name!r}] must be a mapping from each level to its probability "
                "in every cluster."
            )
        columns = [_array(f"levels of {name!r}: {level!r}", own[level], (k,)) for level in own]
        table = np.stack(columns, axis=1)
        if np.any(table < 0) or np.any(np.abs(table.sum(axis=1) - 1) > _SUM):
            raise OptionError(
                f"params['levels'][{name!r}]: probabilities must not be negative and must sum to "
                "1 in every cluster."
            )
        found[name] = (list(own), table)
    return found


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
        gates = _array(what, values, (k, len(terms)))
    else:
        # The last stick takes what is left, whatever is said of it.
        whole = np.shape(values)[:1] == (k,)
        order = np.argsort(truth.sticks)[:-1]
        gates = _array(what, np.asarray(values)[order] if whole else values, (k - 1, len(terms)))
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


def _by_response(value: Any, what: str, names: Sequence[str]) -> dict[str, Any]:
    """A value of each response; with one response it may stand alone."""
    if isinstance(value, Mapping):
        if sorted(value) != sorted(names):
            raise OptionError(
                f"params[{what!r}] names {', '.join(map(repr, value))}; the responses are "
                f"{', '.join(map(repr, names))}."
            )
        return dict(value)
    if len(names) > 1:
        raise OptionError(
            f"params[{what!r}] must be a dictionary from each response to its values: "
            f"{', '.join(map(repr, names))}."
        )
    return dict.fromkeys(names, value)


def _coefficients(truth: Truth, name: str, terms: Sequence[str]) -> np.ndarray:
    """Coefficients (k, p, m) in the order of the design's columns."""
    value = truth.coefficients[name]
    if isinstance(value, pd.DataFrame) and sorted(map(str, value.columns)) == sorted(terms):
        value = value[list(terms)]
    what = f"coefficients of {name!r}, one column for each of {', '.join(terms)},"
    shape = (truth.weights.size, len(terms), *np.shape(value)[2:3])
    found = _array(what, value, shape)
    return found if found.ndim == 3 else found[:, :, None]


def _covariances(value: Any, k: int, d: int) -> np.ndarray:
    covariances = _array("covariances", value, (k, d, d))
    for j, matrix in enumerate(covariances):
        symmetric = np.allclose(matrix, matrix.T, rtol=1e-8, atol=0)
        if not symmetric or np.linalg.eigvalsh(matrix)[0] <= 0:
            raise OptionError(
                f"params['covariances'][{j}] is not a covariance: it must be symmetric and "
                "positive definite."
            )
    return covariances


def _array(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise OptionError(f"params: {what} must be numbers of shape {shape}.") from error
    if array.shape != shape or not np.all(np.isfinite(array)):
        found = f"of shape {array.shape}" if array.shape != shape else "with NaN or infinity"
        raise OptionError(f"params: {what} must be finite numbers of shape {shape}, not {found}.")
    return array
