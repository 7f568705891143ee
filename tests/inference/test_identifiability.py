"""Notes on what the data cannot tell, where that is known, and none on ordinary data."""

import itertools

import numpy as np
import pytest

import clusterwise as cw
from clusterwise.assembly.assemble import assemble
from clusterwise.core.runtime import double_precision
from clusterwise.data import load
from clusterwise.frames.table import open_table
from clusterwise.inference.identifiability import data_notes, unconnected

N = 240
RNG = np.random.default_rng(4)
DATA = {
    "x": RNG.normal(size=N),
    "dose": np.tile([0.0, 1.0, 2.0], N // 3),
    "g": np.tile(["a", "b"], N // 2),
    "y": RNG.normal(size=N),
    "hit": (RNG.random(N) < 0.4).astype(float),
    "hits": RNG.binomial(5, 0.4, N).astype(float),
    "five": np.full(N, 5.0),
    "person": np.repeat(np.arange(N // 6), 6),
    "rare": np.where(np.arange(N) < 2, "c", np.tile(["a", "b"], N // 2)),
}


def notes(model, data=DATA):
    spec, rng = model.specification(), np.random.default_rng(0)
    return " ".join(data_notes(double_precision(assemble)(spec, open_table(data), rng)))


@pytest.mark.parametrize("seed", range(6))
def test_sets_are_those_between_which_no_relation_holds(seed):
    # Brute force: a set is apart from the rest if their ranks add up to the rank of all.
    rng = np.random.default_rng(seed)
    rows = np.zeros((7, 5))
    cut = rng.integers(1, 4)
    rows[:4, :cut], rows[4:, cut:] = (
        rng.integers(-1, 2, (4, cut)),
        rng.integers(-1, 2, (3, 5 - cut)),
    )
    rows = np.unique(rows[np.abs(rows).sum(axis=1) > 0], axis=0) @ rng.normal(size=(5, 5))
    rank = np.linalg.matrix_rank
    together = np.ones((len(rows), len(rows)), bool)
    for size in range(1, len(rows)):
        for some in itertools.combinations(range(len(rows)), size):
            inside = np.isin(np.arange(len(rows)), some)
            if rank(rows[inside]) + rank(rows[~inside]) == rank(rows):
                together &= inside[:, None] == inside
    found = unconnected(rows)
    np.testing.assert_array_equal(found[:, None] == found, together)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (cw.Model("y ~ x * g"), "fall into 2 sets of rows"),
        (cw.Model("y ~ g"), "fall into 2 sets of rows"),
        (cw.Model("y ~ dose", n_components=3), "have 3 distinct rows, which 3 hyperplanes"),
        (cw.Model("hit ~ dose", family="bernoulli"), "2 clusters are not identified"),
        (cw.Model("hit ~ x", family="bernoulli"), "one trial a row, fewer than the 3"),
        (
            cw.Model("hits ~ x", family="binomial", trials="five", n_components=4),
            "at most 5 trials a row, fewer than the 7",
        ),
        (cw.Model("y ~ x + g"), ""),
        (cw.Model("y ~ x + x^2 + rare * x"), ""),
        (cw.Model("y ~ dose"), ""),
        (cw.Model("y ~ x * g", covariates="x"), ""),
        (cw.Model("y ~ x * g", n_components=1), ""),
        (cw.Model("hits ~ x", family="binomial", trials="five", n_components=3), ""),
        (cw.Model("hit ~ x", family="bernoulli", covariates="x"), ""),
        (cw.Model(["y ~ x", "hit ~ x"], family=["gaussian", "bernoulli"]), ""),
        (cw.Model("y ~ 1"), ""),
        (cw.Model("hit ~ dose", family="bernoulli", groups="person"), ""),
    ],
)
def test_what_the_rows_leave_open(model, said):
    found = notes(model)
    assert said in found
    assert bool(said) == bool(found)


def test_ordinary_data_give_no_notes():
    penguins = load("penguins")
    size = "bill_length_mm + bill_depth_mm + flipper_length_mm"
    assert notes(cw.Model(f"body_mass_g ~ {size} + sex", n_components=3), penguins) == ""
    assert notes(cw.Model("CO2 ~ GNP", n_components=3), load("co2")) == ""


@pytest.fixture(scope="module")
def lines():
    """Rows on two lines, parallel or crossing."""
    rng = np.random.default_rng(5)
    x, z = rng.uniform(-1, 1, 200) + 10, np.arange(200) % 2
    noise = 0.2 * rng.normal(size=200)
    return {"x": x, "parallel": x + 2 * z + noise, "crossing": (1 - 2 * z) * (x - 10) + noise}


def test_clusters_that_differ_in_the_intercept_only(lines):
    def fitted(name):
        return cw.Model(f"{name} ~ x").fit(lines, cw.VI(n_init=4), random_state=0)

    fit = fitted("parallel")
    assert "Components 0 and 1 differ only in the intercept of 'parallel'" in fit.notes[-1]
    assert fit.notes[-1] in str(fit.summary())
    assert fitted("crossing").notes == ()
