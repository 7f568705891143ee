"""Where known weights are unequal the numbers of components mean something.

Two normals of known weights (.3, .7), means (-1, 2), sd 1: besides the true one there is a mode in
which the weights lie on the wrong sides (Marin, Mengersen and Robert 2005, Handbook of
Statistics 25).
"""

from dataclasses import replace
from functools import cache, partial

import jax
import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import optimize, stats

import clusterwise as cw
from clusterwise.assembly.assemble import assemble
from clusterwise.assembly.units import in_data_units
from clusterwise.core.random import random_key
from clusterwise.core.runtime import double_precision
from clusterwise.engines.chains import Chains
from clusterwise.engines.gibbs import run_gibbs
from clusterwise.engines.step import expectation_program
from clusterwise.fit import Fit
from clusterwise.frames.table import open_table
from clusterwise.inference.modes import modes

pytestmark = pytest.mark.long

WEIGHTS = (0.3, 0.7)
# Means of the components of weight .7 and .3.
TRUE, WRONG = (2.0, -1.0), (0.0, 2.3)
NORMALS = [cw.GaussianCovariates("x", covariance=1.0)]
MODEL = cw.Model(covariates=NORMALS, weights=cw.KnownWeights(WEIGHTS))
GIBBS = cw.Gibbs(num_warmup=100, num_samples=250, num_chains=2)


def simulated(weights=WEIGHTS, n=500):
    rng = np.random.default_rng(5)
    means = np.where(rng.random(n) < weights[0], -1.0, 2.0)
    return {"x": means + rng.normal(size=n)}


@cache
def fitted(engine):
    return MODEL.fit(simulated(), engine=GIBBS if engine == "gibbs" else engine, random_state=0)


def maximum(start):
    """SciPy's optimum from there: means of the components of weight .7 and .3, log likelihood."""
    x = simulated()["x"][:, None]

    def loss(means):
        return -np.log(stats.norm.pdf(x, means) @ np.array([0.7, 0.3])).sum()

    found = optimize.minimize(loss, start, tol=1e-10)
    return found.x, -found.fun


def test_the_wrong_way_round_is_an_optimum_of_its_own():
    fit = cw.Model(covariates=NORMALS, weights=cw.KnownWeights(WEIGHTS), prior="flat").fit(
        simulated(), engine="em", random_state=0
    )
    table = fit.optima
    starts = {0: TRUE, 1: WRONG}
    assert table.index.get_level_values("optimum").unique().tolist() == [0, 1]
    for number, start in starts.items():
        means, log_likelihood = maximum(start)
        own = table.loc[number]
        np.testing.assert_allclose(own["mean of x"], means, atol=1e-4)
        np.testing.assert_allclose(own["weight"], [0.7, 0.3])
        np.testing.assert_allclose(own["log_likelihood"], log_likelihood, atol=1e-6)
        assert own["chosen"].tolist() == [number == 0] * 2
    np.testing.assert_allclose(table.loc[1, "mean of x"], [0.0, 2.3], atol=0.5)
    assert fit.n_parameters == 2


@pytest.mark.parametrize("engine", ["vi", "gibbs"])
def test_posteriors_list_both_modes(engine):
    fit = fitted(engine)
    np.testing.assert_allclose(fit.means["x"], maximum(TRUE)[0], atol=0.1)
    np.testing.assert_allclose(fit.weights, [0.7, 0.3])
    table = fit.optima
    assert len(table) == 4
    np.testing.assert_allclose(table.loc[1, "mean of x"], maximum(WRONG)[0], atol=0.1)
    assert fit.restarts["log_likelihood"].tolist() == pytest.approx(
        [maximum(TRUE)[1], maximum(WRONG)[1]], abs=0.1
    )
    assert fit._record.standard_deviations().weights.tolist() == [0, 0]


def test_draws_keep_their_labels_and_a_saved_fit_its_optima(tmp_path):
    fit = fitted("gibbs")
    np.testing.assert_array_equal(fit._record.permutation, np.tile([0, 1], (2, 250, 1)))
    fit.save(tmp_path / "fit")
    again = cw.load(tmp_path / "fit")
    assert again.model == fit.model
    assert again.optima.equals(fit.optima)


@cache
@double_precision
def chains_from(start, pivot, weights=WEIGHTS):
    """Draws of two chains that start at one optimum, relabelled to another, and their features."""
    model = cw.Model(covariates=NORMALS, weights=cw.KnownWeights(weights))
    spec, rng = model.specification(), np.random.default_rng(0)
    found = assemble(spec, open_table(simulated()), rng)
    problem, prior, fit = found.problem, found.problem.prior, fitted("vi")
    at = {}
    for place in (start, pivot):
        order = [1, 0] if place == "swapped" else [0, 1]
        number = 1 if place == "second" else 0
        point = jax.tree.map(lambda leaf, i=number: leaf[i], fit._record.optima)
        means = point.parts[1].coefficients[order]
        weight, normals = prior.mode().parts[0], point.parts[1]
        point = type(point)((weight, type(normals)(means, normals.covariance)))
        totals = problem.source.sum(partial(expectation_program, problem.block, point.moments()))
        at[place] = problem.block.posterior(totals.statistics, prior, prior.moments())
    chains = Chains(100, 250, 2, random_key(1), lambda *_: None)
    draws = run_gibbs(problem.block, prior, problem.source, at[start], at[pivot].moments(), chains)
    values = in_data_units(found.prepared.layout, draws.parameters)
    features = np.stack([values.parts[0].coefficients[..., 0, 0], values.weights], axis=-1)
    return draws, features.reshape(500, 2, 2)


def test_chains_at_the_second_mode_are_a_second_mode():
    (first, of_first), (second, of_second) = (
        chains_from(at, "first") for at in ("first", "second")
    )
    np.testing.assert_array_equal(second.permutation, np.tile([0, 1], (2, 250, 1)))
    density = np.concatenate([first.log_density.ravel(), second.log_density.ravel()])
    features = np.concatenate([of_first, of_second])
    found = modes(features, density, np.repeat(np.arange(4), 250))
    # Chains may leave the second mode by a trade of clusters, and none goes there from the first.
    assert [mode.chains[:2].tolist() for mode in found] == [[1, 1], [0, 0]]
    assert found[1].chains[2:].min() > 0.1
    true, wrong = maximum(TRUE)[0], maximum(WRONG)[0]
    np.testing.assert_allclose(found[0].centre, np.column_stack([true, [0.7, 0.3]]), atol=0.15)
    np.testing.assert_allclose(found[1].centre, np.column_stack([wrong, [0.7, 0.3]]), atol=0.15)
    assert len(modes(of_first, first.log_density.ravel(), np.repeat([0, 1], 250))) == 1


def test_a_fit_of_both_modes_reports_them_and_relabels_nothing():
    first, second = (chains_from(at, "first")[0] for at in ("first", "second"))
    # Two chains at the true mode, which numbers would follow if they could, and one at the other.
    both = jax.tree.map(lambda a, b: np.concatenate([a, b[1:]]), first, second)
    record = replace(
        fitted("gibbs")._record,
        draws=both.parameters,
        log_density=both.log_density,
        permutation=both.permutation,
        sample_stats={},
    )
    fit = Fit(MODEL, record)
    wrong = maximum(WRONG)[0]
    assert [mode.chains.tolist() for mode in fit.modes] == [[1, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(fit.modes[1].centre[:, 1], wrong, atol=0.15)
    np.testing.assert_array_equal(fit.label_confidence, 1)
    for method in ("ecr", "stephens", "pivot"):
        np.testing.assert_array_equal(
            fit.relabel(method)._record.permutation, np.tile([0, 1], (3, 250, 1))
        )


def test_equal_weights_leave_numbers_without_meaning():
    draws, features = chains_from("swapped", "first", (0.5, 0.5))
    # Chains trade the clusters now and then, and every draw is numbered as the pivot is.
    assert 0.1 < (draws.permutation[..., 0] == 0).mean() < 0.9
    assert features[:, 0, 0].min() > 1
    assert features[:, 1, 0].max() < 0


def test_a_numpyro_program_has_no_site_for_what_is_known():
    from numpyro import handlers

    trace = handlers.trace(handlers.seed(MODEL.numpyro(simulated()), 0)).get_trace()
    assert [site for site in trace if trace[site]["type"] == "sample"] == ["means", "obs"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((0.3, 0.6), "weights.*sum to one"),
        ((1.2, -0.2), "weights.*positive"),
        ((0.5, np.nan), "weights.*positive"),
        (("a", "b"), "weights.*numbers"),
        (1.0, "weights.*sequence"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(cw.OptionError, match=message):
        cw.KnownWeights(weights)


def test_there_is_a_weight_for_each_component():
    with pytest.raises(cw.OptionError, match="2 weights for n_components=3"):
        cw.Model("y ~ x", n_components=3, weights=cw.KnownWeights(WEIGHTS))
    assert cw.KnownWeights(np.array([0.2, 0.5, 0.3 + 1e-7])).weights[0] == 0.5


@pytest.mark.parametrize(
    "engine", [cw.Gibbs(200, 4000, 2, n_init=2), cw.NUTS(200, 4000, 2, n_init=2)]
)
def test_chains_go_to_and_fro_between_the_modes_of_known_weights(engine):
    rng = np.random.default_rng(0)
    y = np.where(rng.random(40) < 0.4, -0.5, 1.0) + rng.normal(size=40)
    model = cw.Model(
        "y ~ 1",
        family=cw.Gaussian(sigma=1.0),
        weights=cw.KnownWeights((0.4, 0.6)),
        prior={"y": cw.Normal(0.0, 4.0)},
    )
    fit = model.fit({"y": y}, engine=engine, random_state=0)
    means = fit.posterior["posterior"]["coefficients"].values[..., 0]
    # The posterior of two means on a grid; components of a fit come by weight.
    grid = np.linspace(-3, 4, 401)
    normal = stats.norm.pdf(y[:, None] - grid)
    density = np.log(0.6 * normal[:, :, None] + 0.4 * normal[:, None, :]).sum(axis=0)
    prior = stats.norm.logpdf(grid, scale=2)
    density = np.exp(density - density.max() + prior[:, None] + prior)
    below = density[grid[:, None] < grid].sum() / density.sum()
    draws = (means[..., 0] < means[..., 1]).astype(float)
    error = draws.std() / np.sqrt(array_stats.ess(draws, chain_axis=0, draw_axis=1))
    assert 0.1 < below < 0.9
    assert draws.mean() == pytest.approx(below, abs=4 * error)
