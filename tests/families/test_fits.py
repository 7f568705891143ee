"""Laws of fits of every family: optima, weights, predictions, files, errors."""

from functools import cache

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import clusterwise as cw
from clusterwise.assembly.assemble import assemble
from clusterwise.core.runtime import double_precision
from clusterwise.engines.ascent import MeanProjection, ModeProjection
from clusterwise.engines.search import search, silent
from clusterwise.engines.start import Start
from clusterwise.frames.table import open_table
from tests.families.recovery import estimates_of, order_of, standard_errors, truth_of
from tests.families.registry import FAMILIES, TRIALS, fitted, with_family

# Each family compiles programs of its own, for half a minute and more: `make test` fits a count, a
# response with levels and a standardised one, and the slow tests all of them.
SLOW = pytest.mark.slow
USUAL = {"negative_binomial", "categorical", "student"}
NAMES = [pytest.param(n, marks=() if n in USUAL else SLOW) for n in FAMILIES]
FITS = [
    pytest.param(
        name,
        engine,
        marks=() if name in USUAL and (engine, name) != ("vi", "categorical") else SLOW,
    )
    for name in FAMILIES
    for engine in ("em", "vi")
]


def constants_of(case, flat, m):
    """Coefficients (2, m) and constants (c,) from one vector."""
    return flat[: 2 * m].reshape(2, m), flat[2 * m :]


def main_and_constants(coefficients, constants, x):
    main = coefficients[0][:, None] + coefficients[1][:, None] * x
    return main, np.repeat(np.reshape(constants, (-1, 1)), x.size, axis=1)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_one_cluster_is_maximum_likelihood(name):
    case = FAMILIES[name]
    data = case.data(2).query("z == 0")
    x, y = data.x.to_numpy(), data.y.to_numpy()
    m = np.shape(case.coefficients)[2]

    def loss(flat):
        main, constants = main_and_constants(*constants_of(case, flat, m), x)
        return -case.log_density(y, main, constants).sum()

    truth = np.asarray(case.coefficients)[0].ravel(), np.asarray(case.constants)[0].ravel()
    begin = np.concatenate(truth)
    options = {"xatol": 1e-9, "fatol": 1e-10, "maxiter": 40_000, "maxfev": 40_000}
    best = optimize.minimize(loss, begin, method="BFGS", options={"gtol": 1e-7})
    best = optimize.minimize(loss, best.x, method="Nelder-Mead", options=options)
    coefficients, constants = constants_of(case, best.x, m)
    model = case.model(n_components=1, covariates=None, prior="flat")
    fit = model.fit(data, engine=cw.EM(n_init=1, tol=1e-13), random_state=0)
    assert fit.log_likelihood == pytest.approx(-best.fun, rel=1e-9)
    found = np.asarray(fit.coefficients).reshape(m, 2).T
    np.testing.assert_allclose(found, coefficients, rtol=1e-5, atol=1e-6)
    for what, value in case.dispersion(constants).items():
        assert fit.dispersion[what][0] == pytest.approx(value, rel=1e-5)


@cache
def allowed(name):
    """Six standard errors by the numerical information of SciPy's density at the truth."""
    return 6 * standard_errors(FAMILIES[name], FAMILIES[name].data(1))


@pytest.mark.long
@pytest.mark.parametrize(("name", "engine"), FITS)
def test_two_clusters_are_found_again(name, engine):
    case = FAMILIES[name]
    fit, _ = fitted(name, engine)
    m = np.shape(case.coefficients)[2]
    errors, truth, found = allowed(name), truth_of(case), estimates_of(fit, m)
    constants = np.asarray(case.constants, float).reshape(2, -1)
    # Dispersions have their errors as the predictors have them.
    ends = [case.dispersion((constants + sign * errors[:, 2 * m :]).T) for sign in (-1, 1)]
    for place, what in enumerate(truth):
        allowance = errors[:, min(place, 2 * m - 1)]
        if place >= 2 * m:
            allowance = np.max([np.abs(end[what] - truth[what]) for end in ends], axis=0)
        assert np.all(np.abs(found[what] - truth[what]) < allowance), what
    np.testing.assert_allclose(fit.weights.to_numpy()[order_of(fit)], [0.6, 0.4], atol=0.08)


@double_precision
def run_from_clusters(model, data, projection):
    """The run that starts in the true clusters, which its row order or weights do not change."""
    table = open_table(data)
    problem = assemble(model.specification(table.names), table, np.random.default_rng(0)).problem
    return search(
        projection,
        problem._replace(starts=[Start("true clusters", data.z.to_numpy())]),
        n_init=0,
        tol=1e-13,
        max_iter=5000,
        rng=np.random.default_rng(0),
        progress=silent,
    ).best


@pytest.mark.long
@pytest.mark.parametrize(("name", "engine"), FITS)
def test_sample_weight_is_a_number_of_copies(name, engine):
    """From one start the two runs take one path, up to rounding, and stop at one iteration.

    Fits from their own starts do not: recipes draw rows, of which the repeated are others. They end
    where the objective is flat to rounding, that is within the root of it of the same parameters.
    """
    case = FAMILIES[name]
    data = case.data(1)
    weight = np.random.default_rng(4).integers(0, 3, size=len(data))
    repeated = data.loc[data.index.repeat(weight)].reset_index(drop=True)
    projection = ModeProjection() if engine == "em" else MeanProjection()
    weighted = case.model(sample_weight="n")
    one = run_from_clusters(weighted, data.assign(n=weight), projection)
    two = run_from_clusters(case.model(), repeated, projection)
    assert one.n_iter == two.n_iter
    assert one.objective == pytest.approx(two.objective, rel=1e-12)
    modes = (jax.tree.leaves(run.posterior.mode()) for run in (one, two))
    for own, other in zip(*modes, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-8, atol=1e-8)


def shares(fit, data):
    """Probabilities (2, n) of the clusters given w, from the point estimates."""
    scale = np.sqrt([own.loc["w", "w"] for own in fit.covariances])
    log = np.log(fit.weights.to_numpy())[:, None] + stats.norm.logpdf(
        data.w.to_numpy(), fit.means["w"].to_numpy()[:, None], scale[:, None]
    )
    return np.exp(log - special.logsumexp(log, axis=0))


def of_clusters(name, fit, data, function, y):
    """A function of the response for both clusters (2, n), at point estimates."""
    case = FAMILIES[name]
    m = np.shape(case.coefficients)[2]
    slopes = np.asarray(fit.coefficients).reshape(2, m, 2)
    found = []
    for k in range(2):
        main = slopes[k][:, :1] + slopes[k][:, 1:] * data.x.to_numpy()
        constants = case.constants_from(
            np.array([fit.dispersion[own][k] for own in fit.dispersion])
        )
        found.append(function(y, main, np.repeat(constants[:, None], len(data), axis=1)))
    return np.array(found)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_of_the_mixture(name):
    case = FAMILIES[name]
    fit, data = fitted(name, "em")
    data = data.iloc[:60]
    share, y = shares(fit, data), data.y.to_numpy()

    def density(at):
        return (share * np.exp(of_clusters(name, fit, data, case.log_density, at))).sum(axis=0)

    np.testing.assert_allclose(fit.predict(data, kind="density"), density(y), rtol=1e-8)
    mean, drawn = fit.predict(data), fit.predict(data, kind="sample", n_samples=50, random_state=0)
    if case.levels:
        expected = np.stack([density(np.full(60, level)) for level in case.support], axis=1)
        assert set(np.unique(drawn)) <= set(case.support)
    elif case.support is not None:
        expected = sum(v * density(np.full(60, v)) for v in case.support)
        assert np.all(np.isin(drawn, case.support))
    else:
        expected = mean_of(name, fit, data, share)
    np.testing.assert_allclose(mean, expected, rtol=1e-7, atol=1e-9)
    if not case.family.ordered:
        for kind in ("quantile", "interval"):
            with pytest.raises(cw.OptionError, match="order"):
                fit.predict(data, kind=kind)
        return
    levels = (0.1, 0.5, 0.93)
    quantiles = fit.predict(data, kind="quantile", q=levels)
    for level, own in zip(levels, quantiles.T, strict=True):
        if case.support is None:
            below = (share * of_clusters(name, fit, data, case.cdf, own)).sum(axis=0)
            np.testing.assert_allclose(below, level, atol=1e-8)
            continue
        whole = np.array([density(np.full(60, v)) for v in case.support])
        below = np.cumsum(whole, axis=0)
        at = own.astype(int)
        assert np.all(below[at, np.arange(60)] >= level - 1e-9)
        assert np.all((at == 0) | (below[np.maximum(at - 1, 0), np.arange(60)] < level))


def mean_of(name, fit, data, share):
    """Means of continuous mixtures."""
    m = np.shape(FAMILIES[name].coefficients)[2]
    slopes = np.asarray(fit.coefficients).reshape(2, m, 2)[:, 0]
    lines = slopes[:, :1] + slopes[:, 1:] * data.x.to_numpy()
    return (share * FAMILIES[name].mean(lines)).sum(axis=0)


@pytest.mark.long
@pytest.mark.parametrize(("name", "engine"), FITS)
def test_saved_fits_predict_the_same(name, engine, tmp_path):
    fit, data = fitted(name, engine)
    fit.save(tmp_path / "fit")
    again = cw.load(tmp_path / "fit")
    assert again.model.family == fit.model.family
    pd.testing.assert_frame_equal(again.dispersion, fit.dispersion)
    for kind in ("mean", "density"):
        first, second = (one.predict(data.iloc[:20], kind=kind) for one in (fit, again))
        np.testing.assert_allclose(first, second, rtol=1e-12)
    assert str(again.summary()) == str(fit.summary())


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_simulated_rows_can_be_fitted_and_come_from_given_parameters(name):
    case = FAMILIES[name]
    slopes = np.asarray(case.coefficients, float)
    params = {
        "weights": [0.6, 0.4],
        "coefficients": slopes if slopes.shape[2] > 1 else slopes[:, :, 0],
        "means": [[-4.0], [4.0]],
        "covariances": [[[1.0]], [[1.0]]],
    }
    constants = np.asarray(case.constants, float).reshape(2, -1)
    dispersion = case.dispersion(constants.T)
    if name == "ordinal":
        dispersion = {"thresholds": np.stack(list(dispersion.values()), axis=1)}
    given = pd.DataFrame({"x": np.full(4000, 0.7), "total": TRIALS})
    drawn = case.model().simulate(4000, params | dispersion, random_state=1, data=given)
    values = [drawn.y[drawn.component == k].to_numpy() for k in range(2)]
    for k, own in enumerate(values):
        direct = case.draw(np.random.default_rng(5), *case.predictors(k, np.full(4000, 0.7)))
        assert stats.ks_2samp(own, direct).pvalue > 1e-4
    fit, data = fitted(name, "em")
    again = fit.simulate(100, random_state=0, data=data)
    assert list(again.columns) == [
        *[c for c in again.columns if c not in ("y", "component")],
        "y",
        "component",
    ]


@pytest.mark.parametrize("name", [name for name, case in FAMILIES.items() if case.wrong])
def test_wrong_responses_are_refused_by_name_and_row(name):
    case = FAMILIES[name]
    value, why = case.wrong
    data = case.data(3)
    data["y"] = data.y.astype(float)
    data.loc[[7, 11], "y"] = value
    with pytest.raises(cw.DataError, match=f"(?s)'y'.*{why}.*7, 11"):
        case.model().fit(data, engine="em", random_state=0)


@pytest.mark.parametrize("name", ["negative_binomial", "zero_inflated", "poisson"])
def test_negative_counts_are_refused(name):
    data = FAMILIES[name].data(3)
    data.loc[5, "y"] = -1.0
    with pytest.raises(cw.DataError, match=r"(?s)'y'.*not a count.*5"):
        FAMILIES[name].model().fit(data, engine="em", random_state=0)


@pytest.mark.parametrize("name", ["categorical", "ordinal"])
def test_one_level_is_refused(name):
    data = FAMILIES[name].data(3).assign(y="a")
    with pytest.raises(cw.DataError, match="'y' has 1 level"):
        FAMILIES[name].model().fit(data, engine="em", random_state=0)


@pytest.mark.long
def test_levels_may_be_text():
    case = FAMILIES["categorical"]
    data = case.data(1)
    names = np.array(["bus", "car", "train"])
    fit, _ = fitted("categorical", "em")
    text = data.assign(y=names[data.y.astype(int)])
    other = case.model(prior="flat").fit(text, engine=cw.EM(n_init=2), random_state=0)
    assert other.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-9)
    assert list(other.coefficients.columns.get_level_values(0).unique()) == ["y=car", "y=train"]
    np.testing.assert_allclose(other.predict(text), fit.predict(data), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "family", "what"),
    [
        ("negative_binomial", cw.NegativeBinomial(shared_size=True), "size"),
        pytest.param("gamma", cw.GammaResponse(shared_shape=True), "shape", marks=SLOW),
        pytest.param("zero_inflated", cw.ZeroInflatedPoisson(shared_zero=True), "zero", marks=SLOW),
        pytest.param("ordinal", cw.Ordinal(shared_thresholds=True), "threshold 3", marks=SLOW),
    ],
)
def test_clusters_may_share_a_dispersion(name, family, what):
    case, data = with_family(name, family), FAMILIES[name].data(1)
    fit = case.model(prior="flat").fit(data, engine=cw.EM(n_init=2), random_state=0)
    own, _ = fitted(name, "em")
    assert fit.dispersion[what].nunique() == 1
    assert fit.n_parameters == own.n_parameters - len(fit.dispersion.columns)
    assert own.dispersion[what].min() < fit.dispersion[what][0] < own.dispersion[what].max()
    assert fit.log_likelihood < own.log_likelihood


@pytest.mark.long
def test_predictions_read_offsets_and_trials():
    case, rng = FAMILIES["poisson"], np.random.default_rng(6)
    data = case.data(1).assign(offset=np.log(rng.uniform(0.5, 2.0, 600)))
    data["y"] = rng.poisson(np.exp(data.offset + 1))
    model = cw.Model("y ~ 1", family="poisson", offset="offset", n_components=1, prior="flat")
    fit = model.fit(data, engine=cw.EM(n_init=1), random_state=0)
    rate = data.y.sum() / np.exp(data.offset).sum()
    np.testing.assert_allclose(fit.predict(data), rate * np.exp(data.offset), rtol=1e-6)
    fit, data = fitted("binomial_probit", "em")
    twice = fit.predict(data.assign(total=2 * TRIALS))
    np.testing.assert_allclose(twice, 2 * fit.predict(data), rtol=1e-12)


@pytest.mark.long
def test_units_of_a_student_response_change_nothing():
    fit, data = fitted("student_nu", "em")
    other = (
        FAMILIES["student_nu"]
        .model(prior="flat")
        .fit(data.assign(y=1e3 * data.y - 5e4), engine=cw.EM(n_init=2), random_state=0)
    )
    jacobian = len(data) * np.log(1e3)
    assert other.log_likelihood == pytest.approx(fit.log_likelihood - jacobian, abs=1e-4)
    np.testing.assert_allclose(other.dispersion["sigma"], 1e3 * fit.dispersion["sigma"], rtol=1e-4)
    np.testing.assert_allclose(other.dispersion["nu"], fit.dispersion["nu"], rtol=1e-3)
    slopes = [one.coefficients["x"].to_numpy() for one in (fit, other)]
    np.testing.assert_allclose(slopes[1], 1e3 * slopes[0], rtol=1e-4)
