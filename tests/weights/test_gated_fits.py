"""Fits whose weights depend on covariates, as a user has them."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import clusterwise as cw
from clusterwise.bootstrap import resampler
from clusterwise.cli.fitting import read_weights
from clusterwise.refit import assemble_again
from tests import derivatives

pytestmark = pytest.mark.long

GATES = np.array([[0.0, 0.0], [0.4, 1.5]])
TRUTH = {"gates": GATES, "coefficients": [[0, 2], [1, -2]], "sigma": [0.3, 0.3]}
MODEL = cw.Model("y ~ x", weights=cw.Gated("w"), prior="flat")
STICKS = cw.Model("y ~ x", weights=cw.LogitStickBreaking("w"), n_components=3)
EM = cw.EM(n_init=4)
W_MEAN, W_SD = 50.0, 4.0


def simulated(n, seed):
    """Rows whose gating column is far from zero: GATES are of w in standard units."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, n))
    truth = TRUTH | {"gates": np.column_stack([GATES[:, 0] - GATES[:, 1] * W_MEAN / W_SD,
                                               GATES[:, 1] / W_SD])}  # fmt: skip
    given = {"x": x, "w": W_MEAN + W_SD * z}
    return MODEL.simulate(None, truth, rng, data=given)


@pytest.fixture(scope="module")
def data():
    return simulated(60, 0)


@pytest.fixture(scope="module")
def fit(data):
    return MODEL.fit(data, engine=EM, random_state=0)


def gate_weights(fit, data):
    """(n, k) from what the fit reports."""
    gates = fit.gates
    eta = gates["Intercept"].to_numpy() + np.outer(data["w"], gates["w"])
    if "stick" not in gates.index.names:
        return special.softmax(eta, axis=1)
    sticks = gates.index.get_level_values("stick").to_numpy()
    share = np.where(sticks == len(sticks) - 1, 1.0, special.expit(eta))
    found, left = np.empty_like(share), np.ones(len(eta))
    for k in np.argsort(sticks):
        found[:, k] = left * share[:, k]
        left = left - found[:, k]
    return found


def check_answers(fit, data):
    """Scores, memberships, weights and predictions follow from what is reported."""
    weights = gate_weights(fit, data)
    means = fit.coefficients["Intercept"].to_numpy() + np.outer(data["x"], fit.coefficients["x"])
    sigma = fit.dispersion["sigma"].to_numpy()
    joint = np.log(weights) + stats.norm.logpdf(data["y"].to_numpy()[:, None], means, sigma)
    np.testing.assert_allclose(fit.score_samples(data), special.logsumexp(joint, axis=1))
    np.testing.assert_allclose(fit.responsibilities(data), special.softmax(joint, axis=1))
    apart = fit.responsibilities(data[["w"]], use_response=False)
    np.testing.assert_allclose(apart, weights, rtol=1e-8)
    np.testing.assert_allclose(fit.predict(data[["x", "w"]]), (weights * means).sum(axis=1))
    np.testing.assert_allclose(fit.weights, weights.mean(axis=0))
    assert fit.weights.is_monotonic_decreasing


def test_answers_follow_from_the_gates(fit, data):
    check_answers(fit, data)
    np.testing.assert_array_equal(fit.gates.loc[0], 0)
    assert fit.n_parameters == 2 * 3 + 2
    assert list(fit.summary().table)[:3] == ["weight", "gate: Intercept", "gate: w"]
    # With an intercept, maximum likelihood puts the average weights where the rows are.
    np.testing.assert_allclose(fit.weights, fit.responsibilities(data).mean(axis=0), atol=1e-5)


def test_errors_of_gates_are_those_of_a_numerical_hessian(fit, data):
    x, y = data[["x"]].to_numpy(), data[["y"]].to_numpy()
    design = np.column_stack([np.ones(60), data["w"]])

    def log_weights(gates):
        return special.log_softmax(np.outer(design @ gates, [0, 1]), axis=1)

    def log_likelihood(flat):
        gates, intercept, slope, log_sigma = flat.reshape(4, 2)
        parts = stats.norm.logpdf(y, intercept + slope * x, np.exp(log_sigma))
        return special.logsumexp(parts + log_weights(gates), axis=1).sum()

    sigma = fit.dispersion["sigma"].to_numpy()
    at = np.concatenate([fit.gates.loc[1], fit.coefficients.to_numpy().T.ravel(), np.log(sigma)])
    step = np.array([2e-4, 2e-4 / W_MEAN, *np.full(6, 2e-4)])
    covariance = np.linalg.inv(derivatives.information(log_likelihood, at, step))
    expected = np.sqrt(np.diagonal(covariance))
    errors = fit.standard_errors(data)
    np.testing.assert_allclose(errors.gates.loc[1], expected[:2], rtol=1e-3)
    np.testing.assert_array_equal(errors.gates.loc[0], 0)
    np.testing.assert_array_equal(errors.table["gate: w"], errors.gates["w"])
    np.testing.assert_allclose(errors.coefficients, expected[2:6].reshape(2, 2).T, rtol=1e-3)
    # Average weights of the rows, whose covariates are what they are.
    share = np.exp(log_weights(at[:2]))
    slope = (share[:, :1] * share[:, 1:] * design).mean(axis=0)
    assert errors.weights[0] == pytest.approx(np.sqrt(slope @ covariance[:2, :2] @ slope), rel=1e-3)


def test_a_bootstrap_averages_the_weights_of_the_rows_that_it_drew(fit, data):
    found = fit.bootstrap(data, 20, random_state=1)
    draw = resampler(assemble_again(MODEL, fit.record, data).problem.source, None)
    times = draw(np.random.default_rng(1).spawn(20)[3]).unpacked(0)[:, -1]
    own = found.replicates.loc[3]
    eta = np.outer(own["gate: Intercept"], np.ones(60)) + np.outer(own["gate: w"], data["w"])
    np.testing.assert_allclose(own["weight"], special.softmax(eta, axis=0) @ times / 60)
    # The spread of 20 replicates has an error of 16 per cent, and few rows have a long tail.
    ratio = found.standard_errors["gate: w"][1] / fit.standard_errors(data).gates["w"][1]
    assert 0.4 < ratio < 3
    assert (found.replicates["gate: w"].xs(0, level="component") == 0).all()


@pytest.mark.slow
def test_errors_of_sticks_are_those_of_a_numerical_hessian(data):
    """Of three components, whose sticks have a prior that enters the curvature."""
    x, y = data[["x"]].to_numpy(), data[["y"]].to_numpy()
    design = np.column_stack([np.ones(60), data["w"]])

    def score(flat):
        gates, intercept, slope, log_sigma = np.split(flat, [4, 7, 10])
        gates = gates.reshape(2, 2)
        eta = design @ gates.T
        left = np.cumsum(special.log_expit(-eta), axis=1)
        weights = np.column_stack([special.log_expit(eta), np.zeros(60)])
        weights[:, 1:] += left
        parts = stats.norm.logpdf(y, intercept + slope * x, np.exp(log_sigma))
        likelihood = special.logsumexp(parts + weights, axis=1).sum()
        # Rows whose average log odds are those of Beta(1, 1): mean 0, variance pi^2 / 3.
        return likelihood - np.square(eta).mean(axis=0).sum() / (2 * np.pi**2 / 3)

    model = cw.Model("y ~ x", weights=cw.LogitStickBreaking("w"), n_components=3, prior="flat")
    fit = model.fit(data, engine=cw.EM(n_init=2, tol=1e-13), random_state=0)
    sticks = fit.gates.index.get_level_values("stick").to_numpy()
    by_stick = np.argsort(sticks)
    line, sigma = fit.coefficients.to_numpy()[by_stick], fit.dispersion["sigma"].to_numpy()
    at = np.concatenate([
        fit.gates.to_numpy()[by_stick[:2]].ravel(), line.T.ravel(), np.log(sigma[by_stick])
    ])  # fmt: skip
    step = np.array([2e-4, 2e-4 / W_MEAN] * 2 + [2e-4] * 9)
    expected = derivatives.errors(score, at, step)
    errors = fit.standard_errors(data)
    gates = errors.gates.to_numpy()[by_stick]
    np.testing.assert_allclose(gates[:2].ravel(), expected[:4], rtol=2e-3)
    assert np.isnan(gates[2]).all()
    found = errors.coefficients.to_numpy()[by_stick]
    np.testing.assert_allclose(found.T.ravel(), expected[4:10], rtol=2e-3)


def test_objective_never_decreases(fit):
    assert np.all(np.diff(fit.history) >= -1e-9 * fit.n_rows)


def test_no_optimiser_improves_the_gates(fit, data):
    resp = fit.responsibilities(data)
    eta = fit.gates.to_numpy() @ np.stack([np.ones(len(data)), data["w"]])
    slope = (resp.T - special.softmax(eta, axis=0)) @ np.column_stack([np.ones(60), data["w"]])
    np.testing.assert_allclose(slope, 0, atol=1e-3)


def test_integer_weights_are_repeated_rows(fit, data):
    some = data.iloc[:40].assign(times=np.where(np.arange(40) < 20, 2, 1))
    weighted = cw.Model("y ~ x", weights=cw.Gated("w"), prior="flat", sample_weight="times")
    one = weighted.fit(some, engine=EM, random_state=0)
    other = MODEL.fit(some.loc[some.index.repeat(some["times"])], engine=EM, random_state=0)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-5)
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-3)


def test_a_saved_fit_answers_as_before(fit, data, tmp_path):
    fit.save(tmp_path / "fit")
    loaded = cw.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(loaded.gates, fit.gates)
    np.testing.assert_array_equal(loaded.predict(data), fit.predict(data))
    assert loaded.model == fit.model


def test_rows_simulated_from_a_fit_follow_its_gates(fit, data):
    many = pd.concat([data[["x", "w"]]] * 400, ignore_index=True)
    drawn = fit.simulate(None, 1, data=many)
    share = (drawn["component"] == 1).to_numpy().reshape(400, -1).mean(axis=0)
    weights = gate_weights(fit, data)[:, 1]
    np.testing.assert_array_less(np.abs(share - weights), 5 * np.sqrt(0.25 / 400))


def test_sticks_are_drawn_in_their_order():
    truth = {"gates": [[-1.0, 2.0], [0.5, 0.0]], "coefficients": np.zeros((3, 2)), "sigma": 1.0}
    drawn = STICKS.simulate(40_000, truth, 0, data={"w": [0.3], "x": [0.0]})
    first, second = special.expit([-1 + 2 * 0.3, 0.5])
    expected = [first, (1 - first) * second, (1 - first) * (1 - second)]
    share = drawn["component"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(share, expected, atol=5 * 0.5 / 200)


def test_what_cannot_be_gated_is_refused(data):
    with pytest.raises(cw.OptionError, match="'y' is the response"):
        cw.Model("y ~ x", weights=cw.Gated("y")).fit(data, engine=EM)
    with pytest.raises(cw.OptionError, match="'w' is covariates"):
        cw.Model("y ~ x", weights=cw.Gated("w"), covariates="w").fit(data, engine=EM)
    with pytest.raises(cw.DataError, match="no column 'v'"):
        cw.Model("y ~ x", weights=cw.Gated("v")).fit(data, engine=EM)
    with pytest.raises(cw.DataError, match="'w'"):
        MODEL.fit(data.assign(w=data["w"].where(data.index > 0)), engine=EM)
    with pytest.raises(cw.OptionError, match="weights without gates"):
        cw.Model("y ~ x", weights=cw.Gated("w")).fit(data, engine="memoized")
    with pytest.raises(cw.OptionError, match="same for all rows"):
        cw.Model("y ~ x", weights=cw.Gated("w")).numpyro(data)
    with pytest.raises(cw.OptionError, match="'gates'"):
        MODEL.simulate(5, {**TRUTH, "weights": [0.5, 0.5]}, data=data)
    with pytest.raises(cw.OptionError, match="shape"):
        MODEL.simulate(5, {**TRUTH, "gates": [[0.0, 0.0]]}, data=data)
    for wrong in (lambda: cw.Gated(""), lambda: cw.Gated("w", scale=0.0)):
        with pytest.raises(cw.OptionError, match="Gated"):
            wrong()
    with pytest.raises(cw.OptionError, match="LogitStickBreaking"):
        cw.LogitStickBreaking("w", concentration=-1.0)


def test_the_command_line_takes_gates():
    assert read_weights("dirichlet", "w") == cw.Gated("w")
    assert read_weights("pitman_yor", None) == "pitman_yor"
    with pytest.raises(cw.OptionError, match="--gate 'w'"):
        read_weights("pitman_yor", "w")


@pytest.mark.slow
def test_text_is_coded_and_columns_that_add_nothing_are_named(data):
    named = data.assign(half=np.where(data["w"] > W_MEAN, "high", "low"), double=2 * data["w"])
    model = cw.Model("y ~ x", weights=cw.Gated("half + w + double"), n_components=1)
    one = model.fit(named, engine=EM, random_state=0)
    assert any("gates of 'double' are not identified" in note for note in one.notes)
    assert list(one.gates) == ["Intercept", "half[T.low]", "w", "double"]
    assert one.n_parameters == 3


@pytest.mark.slow
def test_gates_of_a_constant_are_constant_weights(data):
    one = cw.Model("y ~ x", weights=cw.Gated("1"), prior="flat").fit(data, EM, random_state=0)
    other = cw.Model("y ~ x", prior="flat").fit(data, EM, random_state=0)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-6)
    assert one.n_parameters == other.n_parameters
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-4)


@pytest.mark.slow
def test_estimates_are_the_truth_on_average():
    found = []
    for seed in range(16):
        fit = MODEL.fit(simulated(2000, seed + 10), engine=cw.EM(n_init=2), random_state=0)
        place = int(np.argmin(np.abs(fit.coefficients["x"] - 2)))
        gates = (fit.gates.loc[1 - place] - fit.gates.loc[place]).to_numpy()
        found.append([gates[0] + gates[1] * W_MEAN, gates[1] * W_SD])
    error = np.mean(found, axis=0) - GATES[1]
    spread = np.std(found, axis=0, ddof=1) / 4
    np.testing.assert_array_less(np.abs(error), 3 * spread)


def test_sticks_answer_too(data):
    fit = STICKS.fit(data, engine=cw.EM(n_init=2), random_state=0)
    check_answers(fit, data)
    assert sorted(fit.gates.index.get_level_values("stick")) == [0, 1, 2]
    assert fit.gates.isna().all(axis=1).sum() == 1


@pytest.mark.slow
def test_gates_go_with_counts_and_missing_values():
    """A row without its response, or its covariate, has the weights that its gates give."""
    rng = np.random.default_rng(3)
    n = 60
    w, v = rng.normal(size=(2, n))
    first = rng.random(n) < special.expit(2 * w)
    v = np.where(rng.random(n) < 0.2, np.nan, v + 3 * first)
    y = np.where(rng.random(n) < 0.2, np.nan, rng.poisson(np.where(first, 8, 1)))
    data = pd.DataFrame({"w": w, "v": v, "y": y})
    model = cw.Model("y ~ 1", family="poisson", covariates="v", weights=cw.Gated("w"))
    fit = model.fit(data, engine=EM, random_state=0)
    weights = gate_weights(fit, data)
    mean = np.exp(fit.coefficients["Intercept"].to_numpy())
    sd = np.sqrt([own.to_numpy()[0, 0] for own in fit.covariances])
    density = stats.norm.logpdf(v[:, None], fit.means["v"].to_numpy(), sd)
    joint = np.log(weights)
    joint = joint + np.where(np.isnan(v)[:, None], 0, density)
    joint = joint + np.where(np.isnan(y)[:, None], 0, stats.poisson.logpmf(y[:, None], mean))
    np.testing.assert_allclose(fit.score_samples(data), special.logsumexp(joint, axis=1))
    counted = ~(np.isnan(v) & np.isnan(y))
    np.testing.assert_allclose(fit.log_likelihood, special.logsumexp(joint, axis=1)[counted].sum())


@pytest.mark.slow
def test_groups_have_weights_of_their_own():
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(40), rng.integers(1, 4, 40))
    given = {"id": codes, "x": rng.normal(size=codes.size), "w": rng.normal(size=40)[codes]}
    gates = {"gates": [[0.0, 0.0], [0.0, 2.0]]}
    model = cw.Model("y ~ x", weights=cw.Gated("w"), groups="id", prior="flat")
    data = model.simulate(None, TRUTH | gates, 1, data=given)
    assert (data.groupby("id")["component"].nunique() == 1).all()
    data = data.sample(frac=1, random_state=2, ignore_index=True)
    fit = model.fit(data, engine=EM, random_state=0)
    codes = pd.factorize(data["id"])[0]
    once = np.unique(codes, return_index=True)[1]
    weights = gate_weights(fit, data)[once]
    means = fit.coefficients["Intercept"].to_numpy() + np.outer(data["x"], fit.coefficients["x"])
    scores = stats.norm.logpdf(
        data["y"].to_numpy()[:, None], means, fit.dispersion["sigma"].to_numpy()
    )
    total = np.log(weights)
    np.add.at(total, codes, scores)
    np.testing.assert_allclose(fit.score_samples(data), special.logsumexp(total, axis=1))
    assert fit.log_likelihood == pytest.approx(special.logsumexp(total, axis=1).sum())
    resp = special.softmax(total, axis=1)
    np.testing.assert_allclose(fit.responsibilities(data), resp[codes], atol=1e-9)
    np.testing.assert_allclose(fit.weights, weights.mean(axis=0))
    # The gates' gradient vanishes: each group counts once.
    design = np.column_stack([np.ones(40), data["w"].to_numpy()[once]])
    np.testing.assert_allclose((resp - weights).T @ design, 0, atol=1e-3)
    with pytest.raises(cw.DataError, match=r"id=\d+ share a cluster, and 'w'"):
        model.fit(data.assign(w=np.arange(len(data))), engine=EM)
