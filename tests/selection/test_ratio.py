"""The likelihood ratio's bootstrap against what is known of one cluster and of two."""

import numpy as np
import pandas as pd
import pytest

import clusterwise as cw

MODEL = cw.Model("y ~ x", prior="flat")


def lines(n, share, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, n)
    y = np.where(rng.random(n) < share, 2 + 3 * x, -x) + 0.5 * rng.normal(size=n)
    return pd.DataFrame({"x": x, "y": y})


@pytest.fixture(scope="module")
def one():
    return cw.likelihood_ratio_test(MODEL, lines(60, 0.0, 1), n_replicates=9, random_state=0)


def test_one_cluster_is_not_refuted(one):
    assert one.n_components == (1, 2)
    assert one.p_value > 0.1
    assert one.p_value == (1 + (one.replicates >= one.statistic).sum()) / 10
    assert (one.replicates >= 0).all()
    assert one.notes == ()
    assert f"{one.n_as_large} of 9 replicates" in str(one)


def test_the_statistic_is_that_of_thorough_fits(one):
    data = lines(60, 0.0, 1)
    few, many = (
        cw.Model("y ~ x", n_components=k, prior="flat").fit(data, engine="em", random_state=3)
        for k in (1, 2)
    )
    assert one.statistic == pytest.approx(2 * (many.log_likelihood - few.log_likelihood), abs=2e-2)


def test_two_lines_far_apart_refute_one_cluster():
    found = cw.likelihood_ratio_test(MODEL, lines(60, 0.4, 2), n_replicates=9, random_state=0)
    assert found.p_value == 0.1
    assert found.statistic > found.replicates.max() + 20


def test_what_cannot_be_tested_is_refused():
    data = lines(60, 0.0, 1)
    cases = [
        ({"n_components": (2, 2)}, MODEL, "two numbers of clusters"),
        ({"n_components": 2}, MODEL, "two numbers of clusters"),
        ({"n_replicates": 0}, MODEL, "n_replicates=0"),
        ({"engine": "vi"}, MODEL, "maximises no likelihood"),
        ({}, cw.Model("y ~ x", weights="dirichlet_process"), "truncation"),
        ({}, cw.Model("y ~ x", weights=cw.LogitStickBreaking("x")), "truncation"),
    ]
    for options, model, message in cases:
        with pytest.raises(cw.OptionError, match=message):
            cw.likelihood_ratio_test(model, data, random_state=0, **options)
    gaps = data.assign(x=data["x"].where(data.index > 0), n=2)
    for model, what in (
        (cw.Model("y ~ x", covariates="x"), "values are missing; .* by cw.select"),
        (cw.Model("y ~ 1", sample_weight="n"), "sample_weight; .* by cw.select"),
    ):
        with pytest.raises(cw.OptionError, match=what):
            cw.likelihood_ratio_test(model, gaps, n_replicates=1, random_state=0)
    fit = cw.Model("exp(y) ~ x", n_components=1).fit(data, engine="em", random_state=0)
    with pytest.raises(cw.OptionError, match=r"'exp\(y\)' is computed"):
        fit.bootstrap(data, 2, kind="parametric")
