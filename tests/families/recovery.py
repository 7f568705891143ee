"""Estimates of simulated rows against the parameters that the rows were drawn with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import xarray as xr

import clusterwise as cw
from tests.families.registry import FamilyCase

LEVEL = 0.99


def order_of(fit: cw.Fit) -> np.ndarray:
    """Components by the side of w that they are on."""
    return np.argsort(fit.means["w"].to_numpy())


def truth_of(case: FamilyCase) -> dict[str, np.ndarray]:
    """True parameters by name, (2,) each."""
    slopes = np.asarray(case.coefficients, float)
    found = {f"{i} {j}": slopes[:, i, j] for i in range(2) for j in range(slopes.shape[2])}
    return found | case.dispersion(constants_of(case).T)


def estimates_of(fit: cw.Fit, m: int) -> dict[str, np.ndarray]:
    """Estimates by name, (2,) each, in the order of the clusters."""
    order = order_of(fit)
    slopes = np.asarray(fit.coefficients).reshape(2, m, 2)[order]
    found = {f"{i} {j}": slopes[:, j, i] for i in range(2) for j in range(m)}
    return found | {name: fit.dispersion[name].to_numpy()[order] for name in fit.dispersion}


def draws_of(tree: xr.DataTree, m: int) -> dict[str, np.ndarray]:
    """Draws (chain, draw, 2) by name, in the order of the clusters."""
    own = tree["posterior"]
    order = np.argsort(own["means"].mean(("chain", "draw")).to_numpy()[:, 0])
    slopes = own["coefficients"].to_numpy()
    slopes = slopes.reshape(*slopes.shape[:4], m)[:, :, order]
    found = {f"{i} {j}": slopes[..., i, j] for i in range(2) for j in range(m)}
    rest = {name: own[name].to_numpy()[:, :, order] for name in own.data_vars}
    return rest | found


def constants_of(case: FamilyCase) -> np.ndarray:
    """True constant predictors (2, c)."""
    return np.asarray(case.constants, float).reshape(2, -1)


def standard_errors(case: FamilyCase, data: pd.DataFrame) -> np.ndarray:
    """(2, d) by the numerical information of SciPy's density, at the truth and its clusters.

    Of coefficients and of constant predictors.
    """
    m, errors = np.shape(case.coefficients)[2], []
    for k in range(2):
        own = data[data.z == k]
        x, y = own.x.to_numpy(), own.y.to_numpy()
        at = np.concatenate(
            [np.asarray(case.coefficients, float)[k].ravel(), constants_of(case)[k]]
        )

        def total(flat: np.ndarray, x: np.ndarray = x, y: np.ndarray = y) -> float:
            slopes, constants = flat[: 2 * m].reshape(2, m), flat[2 * m :]
            main = slopes[0][:, None] + slopes[1][:, None] * x
            return -case.log_density(y, main, np.repeat(constants[:, None], x.size, axis=1)).sum()

        size, step = at.size, 1e-3 * np.eye(at.size)
        hessian = [
            [
                (
                    total(at + step[i] + step[j])
                    - total(at + step[i] - step[j])
                    - total(at - step[i] + step[j])
                    + total(at - step[i] - step[j])
                )
                / 4e-6
                for j in range(size)
            ]
            for i in range(size)
        ]
        errors.append(np.sqrt(np.diagonal(np.linalg.inv(np.array(hessian)))))
    return np.array(errors)


def errors_by_name(case: FamilyCase, errors: np.ndarray) -> dict[str, np.ndarray]:
    """Standard errors (2,) of what `truth_of` names, by the delta method for dispersions."""
    m, truth = np.shape(case.coefficients)[2], truth_of(case)
    names = list(truth)
    found = {name: errors[:, i] for i, name in enumerate(names[: 2 * m])}
    constants, step = constants_of(case), 1e-5
    slopes = []
    for i in range(constants.shape[1]):
        moved = constants + step * np.eye(constants.shape[1])[i]
        slopes.append({n: (v - truth[n]) / step for n, v in case.dispersion(moved.T).items()})
    for name in names[2 * m :]:
        # Of sums of constants this is an upper bound.
        parts = [np.abs(own[name]) * errors[:, 2 * m + i] for i, own in enumerate(slopes)]
        found[name] = np.sum(parts, axis=0)
    return found


class Recovery(NamedTuple):
    """What fits to data sets of one family found.

    Parameters
    ----------
    names
        Of the parameters, those of one cluster after those of the other.
    scaled
        (seeds, parameters) errors of the point estimates over their standard errors.
    covered
        (seeds, parameters) whether central intervals of the draws have the truth; None without.
    compilations
        How many programs each fit compiled.
    """

    names: list[str]
    scaled: np.ndarray
    covered: np.ndarray | None
    compilations: list[int]

    @property
    def bias(self) -> np.ndarray:
        """(parameters,) mean errors over their standard errors."""
        return self.scaled.mean(axis=0) * np.sqrt(len(self.scaled))


@contextmanager
def compilations() -> Iterator[list[str]]:
    """What is compiled inside, in all threads."""
    found: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def recover(case: FamilyCase, engine: Any, n: int, seeds: Iterable[int]) -> Recovery:
    """Simulate, fit and compare, once a seed."""
    m, truth = np.shape(case.coefficients)[2], truth_of(case)
    scaled, covered, compiled = [], [], []
    for seed in seeds:
        data = case.data(100 + seed, n)
        errors = errors_by_name(case, standard_errors(case, data))
        with compilations() as found:
            fit = case.model().fit(data, engine=engine, random_state=seed)
        compiled.append(len(found))
        estimates = estimates_of(fit, m)
        scaled.append([(estimates[name] - truth[name]) / errors[name] for name in truth])
        if isinstance(engine, (cw.Gibbs, cw.NUTS)):
            drawn = draws_of(fit.posterior, m)
            ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
            limits = {name: np.quantile(drawn[name], ends, axis=(0, 1)) for name in truth}
            inside = [(limits[n][0] <= truth[n]) & (truth[n] <= limits[n][1]) for n in truth]
            covered.append(np.concatenate(inside))
    return Recovery(
        [f"{name} of {k}" for name in truth for k in range(2)],
        np.array(scaled).reshape(len(scaled), -1),
        np.array(covered) if covered else None,
        compiled,
    )
