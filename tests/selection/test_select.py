"""Criteria against SciPy and loops by hand; what is kept, found again and recommended."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import clusterwise as cw
from clusterwise.selection import select as module
from clusterwise.selection.folds import make_folds

pytestmark = pytest.mark.long

N = 120


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, N)
    z = rng.random(N) < 0.4
    return pd.DataFrame({"x": x, "y": np.where(z, 3 * x, 1 - x) + 0.2 * rng.normal(size=N)})


def log_densities(fit, frame):
    """Weighted densities (n, k) of the rows, from the estimates, by SciPy."""
    mean = fit.coefficients["Intercept"].to_numpy() + np.outer(frame["x"], fit.coefficients["x"])
    sigma = fit.dispersion["sigma"].to_numpy()
    return norm.logpdf(frame["y"].to_numpy()[:, None], mean, sigma) + np.log(fit.weights.to_numpy())


def log_score(fit, frame):
    return np.logaddexp.reduce(log_densities(fit, frame), axis=1)


def unbroken(frame, path, numbers=(1, 2, 3), **options):
    model = cw.Model("y ~ x")
    return cw.select(model, frame, numbers, ("bic", "cv"), n_folds=2, path=path, **options)


@pytest.fixture(scope="module")
def kept(tmp_path_factory, frame):
    return tmp_path_factory.mktemp("selection") / "candidates"


@pytest.fixture(scope="module")
def found(frame, kept):
    return unbroken(frame, kept, random_state=3)


def test_criteria_follow_from_the_log_likelihood(found, frame):
    for fit, row in zip(found.fits, found.table.to_dict("records"), strict=True):
        k = row["n_components"]
        score = log_densities(fit, frame)
        total = np.logaddexp.reduce(score, axis=1)
        free = (k - 1) + 3 * k
        resp = np.exp(score - total[:, None])
        entropy = -(resp * np.log(np.maximum(resp, 1e-300))).sum()
        assert row["n_parameters"] == free
        assert row["log_likelihood"] == pytest.approx(total.sum())
        assert row["aic"] == pytest.approx(2 * free - 2 * total.sum())
        assert row["bic"] == pytest.approx(free * np.log(N) - 2 * total.sum())
        assert row["icl"] == pytest.approx(row["bic"] + 2 * entropy)


def test_best_and_recommendation(found):
    assert found.criteria[:2] == ("bic", "cv")
    assert found.best is found.fits[1]
    assert found.recommendation.startswith("Take K = 2: BIC is best there")
    assert found.recommendation in " ".join(str(found).split())
    recipes = found.best.restarts["recipes"].str.cat(sep=", ")
    assert "split of 1" in recipes and "k-means" in recipes


def test_held_out_scores_are_those_of_a_loop_by_hand(found, frame, monkeypatch):
    halves = np.arange(N) % 2
    monkeypatch.setattr(module, "make_folds", lambda *_: halves)
    model = cw.Model("y ~ x")
    table = cw.select(model, frame, [1, 2], "cv", n_folds=2, random_state=0).table
    scores = np.empty((2, N))
    for j, k in enumerate((1, 2)):
        for fold in range(2):
            inside = halves == fold
            fit = cw.Model("y ~ x", n_components=k).fit(frame[~inside], "em", random_state=5)
            scores[j, inside] = log_score(fit, frame[inside])
    np.testing.assert_allclose(table["cv"], scores.sum(axis=1), atol=0.01)
    error = np.sqrt(N) * scores.std(axis=1, ddof=1)
    np.testing.assert_allclose(table["cv_se"], error, rtol=1e-3)
    gap = scores[0] - scores[1]
    np.testing.assert_allclose(table["cv_diff"], [gap.sum(), 0], atol=0.01)
    np.testing.assert_allclose(table["cv_diff_se"], [np.sqrt(N) * gap.std(ddof=1), 0], rtol=1e-3)


def test_a_selection_goes_on_from_what_is_kept(found, frame, kept, tmp_path):
    path = tmp_path / "cut off"
    shutil.copytree(kept, path)
    lines = [json.loads(line) for line in (kept / "candidates.jsonl").read_text().splitlines()]
    assert len(lines) == len(list(kept.glob("k*"))) == 9
    for line in lines:
        if line["n_components"] == 3 or line["part"] == "fold1":
            shutil.rmtree(path / line["folder"])
    resumed = unbroken(frame, path)
    again = dict(check_exact=True)
    pd.testing.assert_frame_equal(
        resumed.table.drop(columns="seconds"), found.table.drop(columns="seconds"), **again
    )
    # Those that were kept were not fitted again.
    assert (resumed.table["seconds"] == found.table["seconds"]).tolist() == [True, True, False]
    assert resumed.recommendation == found.recommendation
    # Some of the numbers of clusters, with the same ones before them, are found again.
    fewer = unbroken(frame, path, (1, 2))
    assert fewer.table["seconds"].tolist() == found.table["seconds"].tolist()[:2]


def test_a_folder_belongs_to_its_data(frame, kept):
    with pytest.raises(cw.FileError, match="other data"):
        unbroken(frame.assign(y=frame["y"] + 1), kept)
    with pytest.raises(cw.FileError, match="random_state"):
        unbroken(frame, kept, random_state=4)


def test_the_same_seed_gives_the_same_answer(found, frame):
    again = cw.select(cw.Model("y ~ x"), frame, (1, 2, 3), random_state=3)
    np.testing.assert_array_equal(again.table["bic"], found.table["bic"])


def test_folds_are_even_and_keep_groups_whole():
    rng = np.random.default_rng(0)
    fold = make_folds(23, 5, rng)
    assert sorted(np.bincount(fold)) == [4, 4, 5, 5, 5]
    groups = np.repeat(np.arange(12), np.arange(1, 13))
    fold = make_folds(len(groups), 3, rng, groups)
    assert all(len(set(fold[groups == g])) == 1 for g in range(12))
    assert np.ptp(np.bincount(fold)) <= 12
    with pytest.raises(cw.OptionError, match="number of groups, 12"):
        make_folds(len(groups), 13, rng, groups)


def test_groups_are_held_out_whole_and_scored_as_one():
    rng = np.random.default_rng(6)
    person, x = np.repeat(np.arange(24), 5), rng.uniform(-1, 1, N)
    z = (np.arange(24) % 2)[person]
    data = pd.DataFrame({"person": person, "x": x, "y": (2 * z - 1) * x + rng.normal(size=N) / 2})
    model = cw.Model("y ~ x", groups="person")
    found = cw.select(
        model, data.sample(frac=1, random_state=0), 2, "cv", n_folds=2, random_state=0
    )
    scores = found._candidates[0].rows["cv"]
    assert len(scores.values) == 24 and scores.weights.sum() == 24
    half = found.best.score_samples(data)
    assert found.table["cv"].iloc[0] == pytest.approx(half.sum(), abs=12)
    with pytest.raises(cw.OptionError, match="groups of rows do not have"):
        cw.select(model, data, 2, "cv", covariates=[None, "x"])


def test_tests_go_on_until_one_does_not_reject(frame):
    model = cw.Model("y ~ x")
    found = cw.select(model, frame, range(1, 5), "lrt", n_replicates=19, random_state=0)
    one, two, *rest = found.table["lrt"]
    assert one == 0.05 and two > 0.05 and np.isnan(rest).all()
    assert found.best.n_components == 2
    again = cw.likelihood_ratio_test(model, frame, (1, 2), 19, random_state=1)
    assert again.p_value == one
    assert "lrt" not in {line.get_label() for line in found.plot().containers}


def test_curves(found):
    pytest.importorskip("matplotlib")
    axes = found.plot()
    assert axes.get_xlabel() == "Number of clusters"
    drawn = {line.get_label() for line in axes.containers}
    assert drawn == {"BIC", "ICL", "AIC", "held-out log score"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "dic"}, "'dic' is not known"),
        ({"criterion": "elbo", "engine": "em"}, "needs engine='vi'"),
        ({"criterion": "loo", "engine": "vi"}, "needs engine='gibbs'"),
        ({"n_components": []}, "n_components is empty"),
        ({"n_components": [0, 1]}, "has 0"),
        ({"covariance_type": "diag"}, "the model has none"),
        ({"covariates": [None, "x"]}, "use criterion='cv'"),
        ({"criterion": "lrt", "engine": "vi"}, "needs engine='em'"),
        ({"criterion": "lrt", "family": ["gaussian", "student_t"]}, "others are not nested"),
        ({"criterion": "cv", "n_folds": 1}, "n_folds=1"),
        ({"n_components": [2, 80]}, "K = 80: The data have 120 rows"),
    ],
)
def test_what_cannot_be_compared_is_said(frame, options, message):
    with pytest.raises(cw.OptionError, match=message):
        cw.select(cw.Model("y ~ x"), frame, random_state=0, **options)


@pytest.mark.slow
def test_patents_like_counts_have_three_clusters():
    # Of the kind that Wang, Cockburn and Puterman (1998) analyse: counts, three rates.
    rng = np.random.default_rng(3)
    x, z = rng.normal(4, 1.5, 300), rng.choice(3, 300, p=[0.4, 0.35, 0.25])
    line = np.array([[-1.5, 0.9], [1.0, 0.5], [3.2, 0.35]])[z]
    data = {"patents": rng.poisson(np.exp(line[:, 0] + line[:, 1] * x)), "lgrd": x}
    model = cw.Model("patents ~ lgrd", family="poisson")
    found = cw.select(model, data, range(1, 5), random_state=0)
    assert found.best.n_components == 3
    assert found.recommendation.startswith("Take K = 3")


@pytest.mark.slow
def test_four_clusters_with_their_covariates_and_both_covariances():
    data = pd.read_csv("tests/reference/data/four_clusters.csv")
    model = cw.Model("y ~ x1 + x2", covariates="x1 + x2")
    found = cw.select(model, data, [3, 4, 5], random_state=0, covariance_type=["full", "tied"])
    assert found.best.n_components == 4
    assert found.table["covariance_type"].tolist() == ["full"] * 3 + ["tied"] * 3
    assert found.recommendation.startswith("Take K = 4")
