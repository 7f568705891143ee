"""Laws of whole fits: units, weights, copies, and no compilation the second time."""

import threading
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest

import clusterwise as cw
from tests.laws.registry import ENGINES

JOINT = cw.Model("y ~ x1 + x2", covariates="x1 + x2", n_components=2)
N = 120


def two_lines(seed, n=N):
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.4
    x = rng.normal(size=(n, 2)) + np.where(label, 2.0, -2.0)[:, None]
    slope = np.where(label, 3.0, -1.0)
    y = 1 + slope * x[:, 0] + 0.5 * x[:, 1] + 0.4 * rng.normal(size=n)
    return pd.DataFrame({"x1": x[:, 0], "x2": x[:, 1], "y": y})


def in_other_units(data):
    return data.assign(x1=data.x1 + 1e8, x2=data.x2 * 1e6, y=data.y * 1e-9)


def fit_of(engine, data, model=JOINT):
    return model.fit(data, engine=ENGINES[engine].engine, random_state=0)


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_units_change_nothing(engine):
    data = two_lines(1)
    other = in_other_units(data)
    one, two = fit_of(engine, data), fit_of(engine, other)
    jacobian = len(data) * (np.log(1e6) + np.log(1e-9))
    assert two.log_likelihood == pytest.approx(one.log_likelihood - jacobian, abs=1e-3)
    np.testing.assert_allclose(two.responsibilities(other), one.responsibilities(data), atol=1e-4)
    np.testing.assert_allclose(np.asarray(one.coefficients["Intercept"]), 1.0, atol=0.5)
    slopes = np.asarray(one.coefficients[["x1", "x2"]]) * 1e-9 / np.array([1.0, 1e6])
    np.testing.assert_allclose(np.asarray(two.coefficients[["x1", "x2"]]), slopes, rtol=1e-4)


def test_units_of_regressors_do_not_enter_a_conditional_likelihood():
    model = replace(JOINT, covariates=None, prior="flat")
    data = two_lines(2)
    other = in_other_units(data)
    one, two = fit_of("em", data, model), fit_of("em", other, model)
    jacobian = len(data) * np.log(1e-9)
    assert two.log_likelihood == pytest.approx(one.log_likelihood - jacobian, abs=1e-3)
    np.testing.assert_allclose(two.responsibilities(other), one.responsibilities(data), atol=1e-3)


@pytest.mark.parametrize("engine", ["em", "vi"])
def test_sample_weight_is_a_number_of_copies(engine):
    data = two_lines(3, 100)
    weight = np.random.default_rng(4).integers(0, 3, size=100)
    assert 64 < weight.sum() <= 128
    model = replace(JOINT, sample_weight="w")
    one = fit_of(engine, data.assign(w=weight), model)
    two = fit_of(engine, data.loc[data.index.repeat(weight)].reset_index(drop=True))
    assert one.log_likelihood == pytest.approx(two.log_likelihood, rel=1e-6)
    np.testing.assert_allclose(
        np.asarray(one.coefficients), np.asarray(two.coefficients), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(
        one.responsibilities(data.assign(w=1.0)), two.responsibilities(data), atol=1e-3
    )


@pytest.mark.parametrize("engine", ["em", "vi"])
def test_order_of_rows_changes_nothing(engine):
    data = two_lines(5)
    order = np.random.default_rng(6).permutation(len(data))
    one, two = fit_of(engine, data), fit_of(engine, data.iloc[order].reset_index(drop=True))
    assert one.log_likelihood == pytest.approx(two.log_likelihood, rel=1e-6)
    np.testing.assert_allclose(
        one.responsibilities(data)[order],
        two.responsibilities(data.iloc[order].reset_index(drop=True)),
        atol=1e-3,
    )


class Compilations:
    """Counts what JAX traces and compiles, in all threads."""

    def __init__(self):
        self.events = []
        self._lock = threading.Lock()

    def listen(self, event, duration, **_):
        if event.startswith("/jax/core/compile/"):
            with self._lock:
                self.events.append(event.rsplit("/", 1)[1])


@pytest.fixture
def compilations():
    counter = Compilations()
    jax.monitoring.register_event_duration_secs_listener(counter.listen)
    yield counter
    jax.monitoring.unregister_event_duration_listener(counter.listen)


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_second_fit_compiles_nothing(engine, compilations):
    fit_of(engine, two_lines(7))
    compilations.events.clear()
    fit_of(engine, two_lines(8))
    assert not compilations.events
    # As many chunks of the same shape, another number of rows, and other hyperparameters.
    fit_of(engine, two_lines(9, 97), replace(JOINT, weights=cw.Dirichlet(0.5)))
    assert not compilations.events


def test_compilations_are_counted(compilations):
    jax.jit(lambda x: x * 3.25 + 1)(np.ones(3))
    assert "backend_compile_duration" in compilations.events
