"""The scikit-learn estimator: scikit-learn's own checks, and what they do not look at."""

import io
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import clusterwise as cw

pytestmark = pytest.mark.long

QUICK = cw.VI(n_init=1)

FEWER_ROWS = "its data have fewer rows than two regressions have parameters, which is refused"
NEEDS_RESPONSE = "it calls score_samples(X), which needs y: X alone has no density"

FAILED = {
    "check_estimators_nan_inf": FEWER_ROWS,
    "check_regressors_no_decision_function": FEWER_ROWS,
    "check_sample_weight_equivalence_on_dense_data": FEWER_ROWS,
    "check_methods_sample_order_invariance": NEEDS_RESPONSE,
    "check_methods_subset_invariance": NEEDS_RESPONSE,
}


class WithoutScoreSamples(cw.ClusterwiseRegressor):
    @property
    def score_samples(self):
        raise AttributeError


def two_lines(n=400, seed=0):
    """Rows of y = 3 x + 1 (30 %) and y = 0.5 w - x (70 %), and which line they are of."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (n, 2))
    labels = (rng.random(n) < 0.3).astype(int)
    y = np.where(labels, 3 * X[:, 0] + 1, 0.5 * X[:, 1] - X[:, 0]) + 0.2 * rng.normal(size=n)
    return X, y, labels


def regressor(**parameters):
    return cw.ClusterwiseRegressor(**{"engine": QUICK, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def fitted():
    X, y, _ = two_lines()
    return regressor().fit(X, y)


@parametrize_with_checks(
    [cw.ClusterwiseRegressor(engine=QUICK, random_state=0)],
    expected_failed_checks=lambda estimator: FAILED,
)
def test_check(estimator, check):
    check(estimator)


def test_check_of_missing_values_where_clusters_are_not_claimed():
    estimator = cw.ClusterwiseRegressor(weights="dirichlet_process", engine=QUICK, random_state=0)
    estimator_checks.check_estimators_nan_inf("ClusterwiseRegressor", estimator)


@pytest.mark.parametrize(
    "check", ["check_methods_sample_order_invariance", "check_methods_subset_invariance"]
)
def test_check_of_the_methods_that_need_no_response(check):
    estimator = WithoutScoreSamples(engine=QUICK, random_state=0)
    getattr(estimator_checks, check)("ClusterwiseRegressor", estimator)


# -- estimates --------------------------------------------------------------------------------


def test_two_lines_are_found(fitted):
    X, y, labels = two_lines()
    assert_allclose(fitted.weights_, [0.7, 0.3], atol=0.05)
    assert_allclose(fitted.coef_, [[-1, 0.5], [3, 0]], atol=0.05)
    assert_allclose(fitted.intercept_, [0, 1], atol=0.05)
    assert_allclose(fitted.sigma_, 0.2, atol=0.03)
    assert fitted.converged_
    assert fitted.n_iter_ > 1
    assert fitted.lower_bound_ == fitted.fit_.objective
    assert (fitted.labels_ == labels).mean() > 0.95
    assert_array_equal(fitted.assign(X, y), fitted.labels_)
    assert_allclose(fitted.responsibilities(X, y).sum(axis=1), 1)


def test_conditional_predictions_follow_from_the_estimates(fitted):
    X, y, _ = two_lines(50, seed=1)
    means = X @ fitted.coef_.T + fitted.intercept_
    assert_allclose(fitted.predict(X), means @ fitted.weights_, rtol=1e-10)
    density = np.exp(-0.5 * ((y[:, None] - means) / fitted.sigma_) ** 2) / fitted.sigma_
    expected = np.log(density @ fitted.weights_ / np.sqrt(2 * np.pi))
    assert_allclose(fitted.score_samples(X, y), expected, rtol=1e-8)
    # Without a density of X, it says nothing about the cluster.
    assert_allclose(np.ptp(fitted.responsibilities(X), axis=0), 0, atol=1e-12)


def test_covariates_weigh_the_clusters():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3 == 0
    X = rng.normal(np.where(labels, 4.0, 0.0)[:, None], 1, (300, 2))
    y = np.where(labels, 3 * X[:, 0], 10 - X[:, 1]) + 0.1 * rng.normal(size=300)
    model = regressor(covariates=True).fit(X, y)
    assert_allclose(model.means_, [[0, 0], [4, 4]], atol=0.3)
    assert model.covariances_.shape == (2, 2, 2)
    assert (model.assign(X) == labels).mean() > 0.95
    assert model.score(X, y) > 0.9
    model.set_params(covariates=False).fit(X, y)
    assert not hasattr(model, "means_")
    assert model.score(X, y) < 0.5


def test_without_intercept_and_with_one_sigma():
    X, y, _ = two_lines()
    model = regressor(fit_intercept=False, shared_sigma=True).fit(X, y)
    assert_array_equal(model.intercept_, 0)
    assert model.coef_.shape == (2, 2)
    assert np.ptp(model.sigma_) == 0


def test_a_constant_feature_has_no_coefficient_and_no_density():
    X, y, _ = two_lines()
    X[:, 1] = 5.0
    model = regressor(covariates=True).fit(X, y)
    assert_array_equal(model.coef_[:, 1], 0)
    assert np.isnan(model.means_[:, 1]).all()
    assert np.isfinite(model.covariances_[:, 0, 0]).all()


def test_engines_that_give_a_point_or_draws():
    X, y, _ = two_lines()
    em = regressor(engine=cw.EM(n_init=1), prior="flat").fit(X, y)
    gibbs = regressor(engine=cw.Gibbs(50, 100, 1, n_init=1)).fit(X, y)
    for model in (em, gibbs):
        assert_allclose(model.coef_, [[-1, 0.5], [3, 0]], atol=0.05)
        assert model.predict(X).shape == (len(X),)
        assert not hasattr(model, "partial_fit")
        assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


# -- seeds and weights ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, np.random.RandomState, np.random.default_rng])
def test_the_same_seed_gives_the_same_fit(seed):
    X, y, _ = two_lines()
    first, second = (
        regressor(random_state=seed if seed == 3 else seed(3)).fit(X, y) for _ in range(2)
    )
    assert_array_equal(first.coef_, second.coef_)


def test_weights_are_repetitions():
    X, y, _ = two_lines(300)
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 4, size=len(y))
    engine = cw.VI(n_init=1, tol=1e-14)
    weighted = regressor(engine=engine).fit(X, y, sample_weight=weight)
    repeated = regressor(engine=engine).fit(X.repeat(weight, axis=0), y.repeat(weight))
    assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)
    assert_allclose(weighted.sigma_, repeated.sigma_, rtol=1e-6)
    assert_allclose(weighted.lower_bound_, repeated.lower_bound_, rtol=1e-8)
    assert_allclose(weighted.predict(X), repeated.predict(X), atol=1e-6)


def test_rows_of_weight_zero_are_left_out():
    X, y, _ = two_lines()
    wild = np.arange(len(y)) % 10 == 0
    spoilt = np.where(wild, 100 * X[:, 1], y)
    engine = cw.VI(n_init=1, tol=1e-14)
    weighted = regressor(engine=engine).fit(X, spoilt, sample_weight=~wild)
    without = regressor(engine=engine).fit(X[~wild], y[~wild])
    assert_allclose(weighted.coef_, without.coef_, atol=1e-6)
    assert_allclose(weighted.sigma_, without.sigma_, rtol=1e-6)


def test_score_takes_weights(fitted):
    X, y, labels = two_lines()
    assert fitted.score(X, y, sample_weight=labels) != fitted.score(X, y)


# -- streams ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"covariates": True, "covariance_type": "tied", "weights": "dirichlet_process"},
    ],
    ids=["conditional", "joint"],
)
def test_batches_reach_the_fit_of_all_rows(parameters):
    X, y, labels = two_lines(2000)
    whole = regressor(**parameters).fit(X, y)
    stream = regressor(**parameters)
    for rows in np.array_split(np.arange(len(y)), 10):
        assert stream.partial_fit(X[rows], y[rows]) is stream
    assert_allclose(stream.weights_, whole.weights_, atol=0.005)
    assert_allclose(stream.coef_, whole.coef_, atol=0.005)
    assert_allclose(stream.intercept_, whole.intercept_, atol=0.005)
    assert_allclose(stream.sigma_, whole.sigma_, atol=0.002)
    if "covariates" in parameters:
        assert_allclose(stream.means_, whole.means_, atol=0.02)
    # The bound is that of all rows, and the fit of all rows is its maximum but for the prior,
    # whose scale the first batch sets.
    assert stream.lower_bound_ == pytest.approx(whole.lower_bound_, abs=3)
    assert stream.fit_.n_rows == 2000
    assert stream.fit_.summary().table is not None
    assert np.isnan(stream.fit_.log_likelihood)
    assert (stream.assign(X, y) == labels).mean() > 0.95
    assert stream.labels_.shape == (200,)


def test_a_batch_of_weight_two_is_two_batches():
    X, y, _ = two_lines()
    start = regressor().fit(X[:200], y[:200])
    twice = clone(start).fit(X[:200], y[:200])
    doubled = np.concatenate([X[200:], X[200:]]), np.concatenate([y[200:], y[200:]])
    start.partial_fit(X[200:], y[200:], sample_weight=np.full(200, 2.0))
    twice.partial_fit(*doubled)
    assert_allclose(start.coef_, twice.coef_, rtol=1e-9)
    assert_allclose(start.lower_bound_, twice.lower_bound_, rtol=1e-9)


def test_a_stream_takes_any_later_batch_and_goes_on_after_a_fit():
    X, y, _ = two_lines()
    model = regressor().fit(X, y)
    n_iter = model.n_iter_
    model.partial_fit(X[:1], y[:1]).partial_fit(X[:3], np.zeros(3))
    assert model.fit_.n_rows == len(y) + 4
    assert model.n_iter_ == n_iter + 2
    assert len(model.fit_.notes) == 1
    model.fit(X, y)
    assert model.fit_.n_rows == len(y)


def test_an_engine_that_cannot_stream_says_so():
    X, y, _ = two_lines()
    with pytest.raises(AttributeError) as error:
        regressor(engine="em").partial_fit(X, y)
    assert "variational engine" in str(error.value.__cause__)
    with pytest.raises(cw.OptionError, match="nonsense"):
        regressor(engine="nonsense").partial_fit(X, y)


# -- within scikit-learn ----------------------------------------------------------------------


def test_pipeline_and_grid_search():
    X, y, _ = two_lines(200)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), regressor()),
        {"clusterwiseregressor__n_components": [1, 2]},
        cv=2,
        error_score="raise",
    )
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == (200,)


def test_a_clone_is_not_fitted(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict([[0.0, 0.0]])


@pytest.mark.parametrize("module", [pickle, joblib], ids=lambda module: module.__name__)
def test_a_pickle_keeps_double_precision_and_goes_on_streaming(module):
    X, y, _ = two_lines()
    model = regressor().fit(X, y)
    file = io.BytesIO()
    module.dump(model, file)
    file.seek(0)
    copy = module.load(file)
    assert_array_equal(copy.predict(X), model.predict(X))
    assert_array_equal(copy.score_samples(X, y), model.score_samples(X, y))
    model.partial_fit(X, y)
    copy.partial_fit(X, y)
    assert_array_equal(copy.coef_, model.coef_)


def test_a_pickle_holds_no_jax_arrays(fitted):
    fitted.fit_.summary()
    with io.BytesIO() as file:
        pickle.dump(fitted, file)
        assert b"jaxlib" not in file.getvalue()
        assert b"jax._src" not in file.getvalue()


def test_feature_names():
    X, y, _ = two_lines()
    model = regressor().fit(pd.DataFrame(X, columns=["y", "a column"]), y)
    assert_array_equal(model.feature_names_in_, ["y", "a column"])
    with pytest.warns(UserWarning, match="valid feature names"):
        model.predict(X)


# -- errors -----------------------------------------------------------------------------------


def test_a_fit_that_is_cut_short_warns():
    X, y, _ = two_lines()
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        assert not regressor(engine=cw.VI(max_iter=2, n_init=1)).fit(X, y).converged_


def test_too_many_features():
    with pytest.raises(cw.OptionError, match="1000 features"):
        regressor().fit(np.ones((2, 1000)), [0.0, 1.0])


def test_too_few_rows():
    with pytest.raises(ValueError, match="fewer than the model's 9 parameters"):
        regressor().fit(*two_lines(8)[:2])


def test_negative_weights():
    X, y, _ = two_lines()
    with pytest.raises(ValueError, match="sample_weight"):
        regressor().fit(X, y, sample_weight=-np.ones(len(y)))


# -- names of the package ---------------------------------------------------------------------


def test_scikit_learn_is_imported_when_it_is_needed():
    code = (
        "import sys, clusterwise as cw; assert 'sklearn' not in sys.modules; "
        "cw.ClusterwiseRegressor; assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
