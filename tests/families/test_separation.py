"""Estimates at the boundary are finite, and the summary says whose they are."""

import numpy as np
import pandas as pd
import pytest

import clusterwise as cw

N = 120


@pytest.fixture(scope="module")
def data():
    """Two clusters apart in u; in the second a line separates each response, or it is constant."""
    rng = np.random.default_rng(0)
    z = np.arange(N) % 2
    x = rng.normal(size=N)
    thirds = np.where(x > 0.5, "p", np.where(x < -0.5, "q", "r"))
    return pd.DataFrame(
        {
            "x": x,
            "u": rng.normal(size=N) + 6 * z,
            "bit": np.where(z == 1, x > 0, rng.random(N) < 0.5).astype(int),
            "count": np.where(z == 1, 0, rng.poisson(3, N)),
            "hits": np.where(z == 1, 5 * (x > 0), rng.binomial(5, 0.5, N)),
            "trials": 5,
            "level": np.where(z == 1, thirds, rng.choice(list("pqr"), N)),
            "g": np.where(z == 1, rng.choice(list("ab"), N), rng.choice(list("abc"), N)),
            "half": np.where((z == 1) & (x > 0), 1, rng.random(N) < 0.4).astype(int),
            "side": np.where(x > 0, "right", "left"),
        }
    )


CASES = {
    "bernoulli": {"formula": "bit ~ x"},
    "poisson": {"formula": "count ~ x"},
    "binomial": {"formula": "hits ~ x", "trials": "trials"},
    "categorical": {"formula": "level ~ x"},
}


def settled(data, family, prior, engine=None, **options):
    model = cw.Model(family=family, covariates="u", prior=prior, **options)
    return model.fit(data, engine=engine or cw.EM(n_init=2), random_state=0)


def check(fit, data):
    """The component of the second cluster is named, and nothing is infinite."""
    (note,) = fit.notes
    second = int(fit.means["u"].idxmax())
    assert f"in component {second}:" in note and note in str(fit.summary())
    assert repr(fit.model.formula.split()[0]) in note and "boundary" in note
    assert np.isfinite(fit.coefficients.to_numpy()).all()
    assert np.isfinite(fit.score_samples(data)).all()
    assert np.isfinite(fit.predict(data)).all()
    return note


@pytest.mark.long
@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
def test_a_separated_cluster_is_finite_and_named(data, family):
    assert "means nothing" in check(settled(data, family, "flat", **CASES[family]), data)
    assert "the prior's doing" in check(settled(data, family, "default", **CASES[family]), data)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["em", "vi", "svi", "gibbs", "nuts"])
@pytest.mark.parametrize("family", CASES)
def test_every_engine_says_it(data, family, engine):
    check(settled(data, family, "default", engine, **CASES[family]), data)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["binomial", "categorical"])
def test_flat_priors_of_other_families(data, family):
    assert "means nothing" in check(settled(data, family, "flat", **CASES[family]), data)


@pytest.mark.long
def test_one_level_may_be_separated_alone(data):
    # In the second cluster the right side has ones only, the left side both.
    fit = settled(data, "bernoulli", "flat", formula="half ~ side")
    check(fit, data)


@pytest.mark.long
def test_few_rows_without_separation_are_not_named():
    rng = np.random.default_rng(1)
    x = rng.normal(size=14)
    y = np.array([0, 1] * 7)
    fit = cw.Model("y ~ x", family="bernoulli", n_components=1).fit({"x": x, "y": y}, engine="em")
    assert not fit.notes


def test_a_level_that_a_cluster_never_has(data):
    flat = cw.Model(covariates="u + g", prior="flat")
    fit = flat.fit(data, engine=cw.EM(n_init=2), random_state=0)
    second = int(fit.means["u"].idxmax())
    (note,) = fit.notes
    assert note.startswith(f"'g=c' never occurs in component {second}:")
    assert np.isfinite(fit.score_samples(data)).all()
    other = cw.Model(covariates="u + g").fit(data, engine=cw.EM(n_init=2), random_state=0)
    assert not other.notes and other.levels["g"].loc[second, "c"] > 0
    for answer in (fit.responsibilities, fit.score_samples):
        with pytest.raises(cw.DataError, match=r"'g' has the level 'd', which was never seen"):
            answer(data.assign(g="d"))
