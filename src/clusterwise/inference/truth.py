"""Parameters to simulate from: those of a fit, or a user's, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clusterwise.assembly.build import Specification
from clusterwise.core.errors import OptionError
from clusterwise.covariates.density import AbstractColumnDensity, AbstractDensity
from clusterwise.frames.formula import parse
from clusterwise.inference.estimates import Estimates

_SUM = 1e-6


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
    weights = np.full(k, 1 / k) if gated else finite_array("weights", params["weights"], (k,))
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
            dispersion[name][what] = finite_array(f"{what} of {name!r}", each, shape)
            if np.any(dispersion[name][what] < 0):
                raise OptionError(f"params: {what} of {name!r} must not be negative.")
    return Truth(
        weights / weights.sum(),
        _by_response(params.get("coefficients"), "coefficients", [r.name for r in spec.responses]),
        dispersion,
        densities,
        finite_array("means", params["means"], (k, d)) if d else np.zeros((k, 0)),
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
        own = {what: finite_array(f"{what} of {name!r}", given[what], (k,)) for what in names}
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
        columns = [
            finite_array(f"levels of {name!r}: {level!r}", own[level], (k,)) for level in own
        ]
        table = np.stack(columns, axis=1)
        if np.any(table < 0) or np.any(np.abs(table.sum(axis=1) - 1) > _SUM):
            raise OptionError(
                f"params['levels'][{name!r}]: probabilities must not be negative and must sum to "
                "1 in every cluster."
            )
        found[name] = (list(own), table)
    return found


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


def _covariances(value: Any, k: int, d: int) -> np.ndarray:
    covariances = finite_array("covariances", value, (k, d, d))
    for j, matrix in enumerate(covariances):
        symmetric = np.allclose(matrix, matrix.T, rtol=1e-8, atol=0)
        if not symmetric or np.linalg.eigvalsh(matrix)[0] <= 0:
            raise OptionError(
                f"params['covariances'][{j}] is not a covariance: it must be symmetric and "
                "positive definite."
            )
    return covariances


def finite_array(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter's numbers as an array, or an error that names it."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise OptionError(f"params: {what} must be numbers of shape {shape}.") from error
    if array.shape != shape or not np.all(np.isfinite(array)):
        found = f"of shape {array.shape}" if array.shape != shape else "with NaN or infinity"
        raise OptionError(f"params: {what} must be finite numbers of shape {shape}, not {found}.")
    return array
