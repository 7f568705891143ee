"""What a fit says of its chains, and what renumbering does to it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import norm
from sklearn.metrics import adjusted_rand_score

import clusterwise as cw
from clusterwise.engines.relabelling import permute
from clusterwise.fit import Fit

pytestmark = pytest.mark.long

N = 150
SHAPE = (4, 300)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    label = np.arange(N) % 3 // 2
    x = rng.normal(size=N) + 3 * label
    y = np.where(label == 1, 1 - 2 * x, 2 * x) + 0.5 * rng.normal(size=N)
    return pd.DataFrame({"x": x, "y": y, "label": label})


@pytest.fixture(scope="module")
def fit(data):
    engine = cw.Gibbs(num_warmup=100, num_samples=SHAPE[1], num_chains=SHAPE[0], n_init=4)
    model = cw.Model("y ~ x", n_components=2, covariates="x")
    return model.fit(data, engine=engine, random_state=0)


@pytest.fixture(scope="module")
def switched(fit):
    """The fit as a sampler that swaps labels at random would have left it."""
    record = fit._record
    rng = np.random.default_rng(2)
    permutation = rng.permuted(np.tile(np.arange(2), (*SHAPE, 1)), axis=2)
    return Fit(
        fit.model,
        replace(
            record,
            draws=permute(record.draws, permutation),
            permutation=np.take_along_axis(record.permutation, permutation, axis=2),
        ),
    )


def coefficients(fit):
    return fit.posterior["posterior"]["coefficients"].to_numpy()


def test_good_chains_are_called_good(fit):
    assert fit.verdict.flag == "good"
    assert fit.diagnostics["rhat"].max() < 1.05
    assert len(fit.modes) == 1
    assert fit.label_confidence["overall"] > 0.99
    assert "chains: good" in str(fit.summary())


@pytest.mark.parametrize("slow", [False, True])
def test_energy_that_hardly_changes_is_said(fit, slow):
    steps = np.random.default_rng(4).normal(size=SHAPE)
    energy = np.where([[slow], [False], [False], [slow]], np.cumsum(steps, axis=1), steps)
    found = Fit(fit.model, replace(fit._record, sample_stats={"energy": energy})).verdict
    assert found.flag == ("caution" if slow else "good")
    assert ("The energy of chains 0 and 3 changes little" in found.sentences[0]) == slow


def test_switching_is_said_and_leaves_what_no_renumbering_changes(fit, switched):
    assert switched.verdict.flag == "bad"
    assert "Labels switch" in " ".join(switched.verdict.sentences)
    assert switched.label_confidence["overall"] < 0.6
    table, own = switched.diagnostics, fit.diagnostics
    invariant = table["kind"] == "invariant"
    pd.testing.assert_frame_equal(table[invariant], own[invariant])
    slopes = table["quantity"].str.endswith(", x]") & table["quantity"].str.startswith("coef")
    assert slopes.sum() == 2
    assert (table["sd"] > 5 * own["sd"])[slopes].all()


@pytest.mark.parametrize("method", ["ecr", "stephens"])
def test_relabelling_undoes_switching(fit, switched, method):
    again = switched.relabel(method)
    own, found = coefficients(fit), coefficients(again)
    if np.abs(found[0, 0] - own[0, 0]).max() > 1:
        own = own[:, :, ::-1]
    np.testing.assert_allclose(found, own)
    assert again.verdict.flag == "good"
    # The sampler's own labels are remembered through both renumberings.
    raw = fit._record.permutation
    expected = raw if own is coefficients(fit) else raw[..., ::-1]
    kept = again._record.permutation
    assert (kept == expected).all() or (kept == raw).all() or (kept == raw[..., ::-1]).all()


def test_relabelled_point_is_the_likelihood_at_the_mean_of_the_draws(fit, data):
    again = fit.relabel()
    total = np.zeros((N, 2))
    for k in range(2):
        mean = again.coefficients.iloc[k] @ np.vstack([np.ones(N), data["x"]])
        total[:, k] = (
            np.log(again.weights[k])
            + norm.logpdf(data["y"], mean, again.dispersion["sigma"][k])
            + norm.logpdf(data["x"], again.means["x"][k], np.sqrt(again.covariances[k].iloc[0, 0]))
        )
    expected = np.logaddexp.reduce(total, axis=1).sum()
    assert again.log_likelihood == pytest.approx(expected, abs=1e-8)
    resp = softmax(total, axis=1)
    entropy = -(resp * np.log(resp + 1e-300)).sum()
    assert again.icl == pytest.approx(again.bic + 2 * entropy, abs=1e-6)


def test_similarity_and_partition(fit, data):
    together = fit.similarity(data)
    label = data["label"].to_numpy()
    same = label[:, None] == label
    assert together[same].mean() > 0.9
    assert together[~same].mean() < 0.1
    np.testing.assert_array_equal(together, together.T)
    found = fit.partition(data)
    assert adjusted_rand_score(label, found.labels) > 0.9
    assert found.n_clusters[2] == 1
    assert found.ball.share >= 0.95
    # Drawn labels meet as often as the probabilities say.
    drawn = fit._sampled.labels(fit._all_rows(data), 500, np.random.default_rng(3))
    counted = (drawn[:, :, None] == drawn[:, None, :]).mean(axis=0)
    error = np.sqrt(together * (1 - together) / 500)
    assert np.all(np.abs(counted - together) <= 5 * error + 0.01)


def test_saved_fit_says_the_same(fit, tmp_path):
    fit.save(tmp_path / "fit")
    again = cw.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(again.diagnostics, fit.diagnostics)
    assert again.verdict == fit.verdict
    np.testing.assert_allclose(coefficients(again.relabel()), coefficients(fit.relabel()))


def test_points_and_variational_fits_have_no_chains(data):
    model = cw.Model("y ~ x", n_components=2)
    em, vi = (model.fit(data, engine=name, random_state=0) for name in ("em", "vi"))
    for one in (em, vi):
        with pytest.raises(cw.OptionError, match="runs no chains"):
            _ = one.diagnostics
        with pytest.raises(cw.OptionError, match="runs no chains"):
            one.relabel()
    with pytest.raises(cw.OptionError, match="gives a point"):
        em.similarity(data)
    assert vi.similarity(data).shape == (N, N)


def test_unknown_method_and_loss_are_named(fit, data):
    with pytest.raises(cw.OptionError, match="method='order'"):
        fit.relabel("order")
    with pytest.raises(cw.OptionError, match="loss='rand'"):
        fit.partition(data, "rand")
