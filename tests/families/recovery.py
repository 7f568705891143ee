"""Estimates of simulated rows against the parameters that the rows were drawn with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import xarray as xr
from scipy import optimize

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


def truths_of(case: FamilyCase) -> np.ndarray:
    """(2, d) coefficients, those of the intercept first, and constant predictors."""
    slopes = np.asarray(case.coefficients, float).reshape(2, -1)
    return np.concatenate([slopes, constants_of(case)], axis=1)


def loss(case: FamilyCase, data: pd.DataFrame, k: int) -> Callable[[np.ndarray], float]:
    """Negative log likelihood of a cluster's own rows by SciPy's density."""
    m, own = np.shape(case.coefficients)[2], data[data.z == k]
    x, y = own.x.to_numpy(), own.y.to_numpy()

    def total(flat: np.ndarray) -> float:
        slopes, constants = flat[: 2 * m].reshape(2, m), flat[2 * m :]
        main = slopes[0][:, None] + slopes[1][:, None] * x
        return -case.log_density(y, main, np.repeat(constants[:, None], x.size, axis=1)).sum()

    return total


def most_likely(case: FamilyCase, data: pd.DataFrame) -> np.ndarray:
    """(2, d) that maximise it."""
    pairs = enumerate(truths_of(case))
    return np.array(
        [optimize.minimize(loss(case, data, k), at, method="BFGS").x for k, at in pairs]
    )


def standard_errors(case: FamilyCase, data: pd.DataFrame) -> np.ndarray:
    """(2, d) by its numerical information at the truth."""
    errors = []
    for k, at in enumerate(truths_of(case)):
        total, size, step = loss(case, data, k), at.size, 1e-3 * np.eye(at.size)
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


class Recovery(NamedTuple):
    """What fits to data sets of one family found.

    Parameters
    ----------
    scaled
        (seeds, 2, d) errors of the point estimates over their standard errors; dispersions are on
        the scale of their predictors.
    apart
        The same of the maximum of the likelihood given the clusters, by SciPy, in place of the
        truth: what of an error is the engine's.
    covered
        (seeds, parameters) whether central intervals of the draws have the truth; None without.
    compilations
        How many programs each fit compiled.
    """

    scaled: np.ndarray
    apart: np.ndarray
    covered: np.ndarray | None
    compilations: list[int]

    @staticmethod
    def bias(errors: np.ndarray) -> np.ndarray:
        """(2, d) mean errors over their standard errors."""
        return errors.mean(axis=0) * np.sqrt(len(errors))


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
    scaled, apart, covered, compiled = [], [], [], []
    for seed in seeds:
        data = case.data(100 + seed, n)
        errors = standard_errors(case, data)
        with compilations() as found:
            fit = case.model().fit(data, engine=engine, random_state=seed)
        compiled.append(len(found))
        order = order_of(fit)
        slopes = np.asarray(fit.coefficients).reshape(2, m, 2)[order].swapaxes(1, 2)
        rest = case.constants_from(fit.dispersion.to_numpy()[order].T).T
        estimates = np.concatenate([slopes.reshape(2, -1), rest], axis=1)
        scaled.append((estimates - truths_of(case)) / errors)
        apart.append((estimates - most_likely(case, data)) / errors)
        if isinstance(engine, (cw.Gibbs, cw.NUTS)):
            drawn = draws_of(fit.posterior, m)
            ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
            limits = {name: np.quantile(drawn[name], ends, axis=(0, 1)) for name in truth}
            inside = [(limits[n][0] <= truth[n]) & (truth[n] <= limits[n][1]) for n in truth]
            covered.append(np.concatenate(inside))
    own = np.array(covered) if covered else None
    return Recovery(np.array(scaled), np.array(apart), own, compiled)
