"""The classifier: scikit-learn's checks, and the mixture of Shahbaba and Neal behind it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special, stats
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

import clusterwise as cw

# They call score_samples(X), which needs y.
FAILED = {
    "check_methods_sample_order_invariance": "it calls score_samples(X)",
    "check_methods_subset_invariance": "it calls score_samples(X)",
}
POINT = {"covariates": True, "coefficients": "independent", "engine": cw.VI(n_init=1)}
# With a process no number of clusters is claimed, so that rows may be few.
FEW_ROWS = {"weights": "dirichlet_process", "n_components": 2}


def bent(n=80, seed=0):
    """Two clouds along the first feature; in each the second tells three classes another way."""
    rng = np.random.default_rng(seed)
    side = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    X = rng.normal(size=(n, 2)) + 2.5 * side[:, None] * [1, 0]
    share = special.softmax(side[:, None] * X[:, 1:] * [3.0, 0.0, -3.0], axis=1)
    y = (share.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return X, np.array(["u", "v", "w"])[y]


@pytest.fixture(scope="module")
def process():
    engine = cw.Gibbs(num_warmup=50, num_samples=60, num_chains=1, n_init=1)
    classifier = cw.ClusterwiseClassifier(
        4, weights="dirichlet_process", engine=engine, random_state=0
    )
    return classifier.fit(*bent())


@pytest.mark.long
def test_predictions_average_the_joint_density_over_draws(process):
    """p(y | x) is the average of p(x, y) over that of p(x), components without rows included."""
    new = np.array([[2.5, 1.0], [-2.5, 1.0], [0.0, 0.0], [9.0, -9.0]])
    tree = process.fit_.posterior["posterior"]
    weights = tree["weights"].to_numpy()[0]
    log_x = np.log(weights)[:, :, None] + sum(
        stats.norm.logpdf(
            new[:, j],
            tree[f"intercept_of_x{j}"].to_numpy()[0][:, :, None],
            tree[f"sigma_of_x{j}"].to_numpy()[0][:, :, None],
        )
        for j in range(2)
    )
    slopes = tree["coefficients"].to_numpy()[0]
    design = np.column_stack([np.ones(4), new])
    share = special.softmax(np.einsum("skpm,np->sknm", slopes, design), axis=-1)
    joint = np.exp(log_x - log_x.max(axis=(0, 1)))
    expected = (joint[..., None] * share).sum(axis=(0, 1)) / joint.sum(axis=(0, 1))[:, None]
    assert_allclose(process.predict_proba(new), expected, rtol=1e-8)
    assert_allclose(process.predict_log_proba(new), np.log(expected), rtol=1e-7)
    assert process.predict(new[:2]).tolist() == ["u", "w"]


@pytest.mark.long
def test_boundaries_bend_where_clusters_meet(process):
    X, y = bent(400, 1)
    straight = LogisticRegression().fit(*bent())
    assert process.score(X, y) > straight.score(X, y) + 0.15


@pytest.mark.long
def test_scales_are_learned_and_components_are_many(process):
    assert process.coef_.shape == (4, 3, 2)
    assert process.intercept_.shape == (4, 3)
    assert process.classes_.tolist() == ["u", "v", "w"]
    tree = process.fit_.posterior["posterior"]
    assert np.ptp(tree["concentration"].to_numpy()) > 0
    model = process.fit_.model
    assert model.coefficients == cw.Ridge(intercepts=True)
    assert model.family == cw.Categorical(symmetric=True)


@pytest.mark.long
def test_classes_are_alike_under_other_names():
    """No class is a reference: what they are called changes nothing."""
    X, y = bent()
    exact = POINT | {"engine": cw.EM(n_init=1, tol=1e-13)}
    other = np.array(["w", "u", "v"])[np.searchsorted(["u", "v", "w"], y)]
    first, second = (
        cw.ClusterwiseClassifier(random_state=0, **exact).fit(X, own) for own in (y, other)
    )
    assert_allclose(first.lower_bound_, second.lower_bound_, rtol=1e-8)
    assert_allclose(
        first.predict_proba(X), second.predict_proba(X)[:, [2, 0, 1]], rtol=1e-5, atol=1e-6
    )


@pytest.mark.long
def test_batches_come_near_the_fit_of_all_rows():
    X, y = bent(160)
    whole = cw.ClusterwiseClassifier(random_state=0, **POINT).fit(X, y)
    parts = cw.ClusterwiseClassifier(random_state=0, **POINT).partial_fit(X[:80], y[:80])
    parts.partial_fit(X[80:], y[80:])
    assert np.isnan(parts.lower_bound_)
    assert np.mean(whole.predict(X) == parts.predict(X)) > 0.9
    with pytest.raises(cw.DataError, match="class 'x', which the rows that were fitted first"):
        parts.partial_fit(X[:2], ["u", "x"])


def test_what_cannot_be_fitted_is_said():
    X, y = bent()
    with pytest.raises(cw.DataError, match="one class, 'u'"):
        cw.ClusterwiseClassifier().fit(X, np.full(80, "u"))
    with pytest.raises(cw.DataError, match="class 'w' in rows of weight zero only"):
        cw.ClusterwiseClassifier().fit(X, y, sample_weight=(y != "w").astype(float))
    with pytest.raises(cw.OptionError, match="covariates='full' is not known"):
        cw.ClusterwiseClassifier(covariates="full").fit(X, y)
    with pytest.raises(cw.OptionError, match="use coefficients='independent' and covariates"):
        cw.ClusterwiseClassifier(engine="em").fit(X, y)
    with pytest.raises(ValueError, match="Unknown label type"):
        cw.ClusterwiseClassifier().fit(X, X[:, 0])
    with pytest.raises(AttributeError, match="partial_fit"):
        _ = cw.ClusterwiseClassifier().partial_fit


@pytest.mark.long
def test_maximum_likelihood_has_a_reference():
    X, y = bent()
    classifier = cw.ClusterwiseClassifier(
        **POINT | {"engine": cw.EM(n_init=1)}, prior="flat", random_state=0
    ).fit(X, y)
    assert_allclose(classifier.coef_[:, 0], 0.0)
    assert np.all(classifier.coef_[:, 1:] != 0)


@pytest.mark.slow
@parametrize_with_checks(
    [cw.ClusterwiseClassifier(random_state=0, **POINT | FEW_ROWS)],
    expected_failed_checks=lambda estimator: FAILED,
)
def test_check(estimator, check):
    check(estimator)
