"""No-U-turn sampling: its density and gradient, and its draws against exact posteriors."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import special

import clusterwise as cw
from clusterwise.core.rows import RowBlock
from clusterwise.core.runtime import double_precision
from clusterwise.engines.marginal import marginal_log_density
from clusterwise.engines.nuts import Target, all_rows, program_draws
from tests.laws.registry import CASES, ENGINES, N_CLUSTERS, make_source, pack, random_values
from tests.laws.test_gibbs import assert_close, densities, few_rows, flat_draws

pytestmark = pytest.mark.long

QUICK = cw.NUTS(num_warmup=200, num_samples=250, num_chains=2, n_init=4)


@pytest.mark.parametrize("name", ["pitman-yor", "diagonal", "joint"])
def test_value_and_gradient_of_the_marginal_density(name):
    case, rng = CASES[name], np.random.default_rng(2)
    values, weight = random_values(rng), rng.gamma(2.0, size=50)
    rows, point = jax.tree.map(jnp.asarray, pack(values, weight)), case.draw(rng)
    moments = point.moments()

    @jax.jit
    def both(moments):
        return jax.value_and_grad(lambda m: marginal_log_density(case.block, m, rows))(moments)

    @jax.jit
    def plain(moments):
        def density(m):
            chunks = (rows.chunk(i) for i in range(rows.packed.shape[0]))
            scores = [(case.block.score(m, chunk), chunk.weight) for chunk in chunks]
            return sum(jnp.sum(w * jax.nn.logsumexp(s, axis=0)) for s, w in scores)

        return jax.grad(density)(moments)

    value, gradient = both(moments)
    expected = weight @ special.logsumexp(case.log_density(point, values), axis=1)
    assert float(value) == pytest.approx(expected, rel=1e-10)
    for own, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(plain(moments)), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["pitman-yor", "joint"])
def test_gradient_in_coordinates_is_that_of_finite_differences(name):
    case, rng = CASES[name], np.random.default_rng(3)
    prior = case.prior()
    target = Target(case.block, prior, prior.coordinates())
    rows = jax.tree.map(jnp.asarray, pack(random_values(rng)))
    density = jax.jit(lambda z: target.log_prob(z, rows))
    z = 0.5 * rng.normal(size=target.coordinates.size)
    gradient = np.asarray(jax.jit(jax.grad(density))(z))
    for i in range(z.size):
        step = 1e-5 * np.eye(z.size)[i]
        slope = (float(density(z + step)) - float(density(z - step))) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-4)


def test_rows_of_several_blocks_are_put_together():
    values = random_values(np.random.default_rng(4), 45)
    whole, split = make_source(values), make_source(values, block_rows=20)
    assert split.n_blocks == 3
    case = CASES["diagonal"]
    moments = case.draw(np.random.default_rng(5)).moments()
    one, other = (
        jax.jit(marginal_log_density)(case.block, moments, all_rows(source))
        for source in (whole, split)
    )
    assert float(one) == pytest.approx(float(other), rel=1e-12)


@pytest.mark.parametrize(
    ("chunks", "size", "draws"), [(1, 32, 50), (1, 2048, 50), (4, 2048, 16), (64, 2048, 1)]
)
def test_programs_over_many_rows_make_few_draws(chunks, size, draws):
    rows = RowBlock.from_packed(np.ones((chunks, 3, size)))
    assert program_draws(rows) == draws


@cache
@double_precision
def sampled(name):
    case, (values, new) = CASES[name], few_rows()
    prior = case.prior()
    draws = ENGINES["nuts"].run(case.block, prior, make_source(values), prior, jax.random.key(1))
    parameters = flat_draws(draws)
    rows = np.concatenate([values, new])
    return draws, parameters, densities(case, parameters, rows)


@pytest.mark.parametrize("name", ["dirichlet process", "diagonal"])
def test_predictive_density_is_a_ratio_of_evidences(name):
    case, (values, new) = CASES[name], few_rows()
    draws, _, density = sampled(name)
    before = case.log_evidence(values, N_CLUSTERS)
    after = [case.log_evidence(np.vstack([values, row]), N_CLUSTERS) for row in new]
    assert_close(density[:, len(values) :].sum(axis=2), np.exp(np.array(after) - before), 4)
    log_density = np.log(density[:, : len(values)].sum(axis=2)).sum(axis=1)
    np.testing.assert_allclose(draws.log_density.ravel(), log_density, rtol=1e-9)


def test_concentration_has_its_exact_mean():
    case, (values, _) = CASES["dirichlet process"], few_rows()
    _, parameters, _ = sampled("dirichlet process")
    prior = case.prior().parts[0]
    labelings, log_joint = case.log_labelings(values, N_CLUSTERS)
    count = [np.bincount(labels, minlength=N_CLUSTERS).astype(float) for labels in labelings]
    mean = {
        key: float(prior.updated(np.array(key), prior.moments()).moments().concentration)
        for key in {tuple(c) for c in count}
    }
    exact = special.softmax(log_joint) @ np.array([mean[tuple(c)] for c in count])
    assert_close(parameters.parts[0].concentration, exact, 4)


@pytest.fixture(scope="module")
def lines():
    # As many as of the other data sets here, for which nothing is then compiled again.
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    y = np.where(rng.random(300) < 0.4, 1 + 2 * x, -x) + 0.3 * rng.normal(size=300)
    return {"x": x, "y": y, "w": rng.uniform(0.5, 1.5, size=300)}


@pytest.fixture(scope="module")
def fit(lines):
    return cw.Model("y ~ x").fit(lines, engine=QUICK, random_state=0)


def test_what_the_sampler_did_is_kept(fit, tmp_path):
    fit.save(tmp_path / "fit")
    for stats in (
        fit.posterior["sample_stats"],
        cw.load(tmp_path / "fit").posterior["sample_stats"],
    ):
        assert stats["lp"].dims == ("chain", "draw")
        assert stats["diverging"].dtype == bool
        depth, steps = stats["tree_depth"].to_numpy(), stats["n_steps"].to_numpy()
        assert np.all(steps < 2**depth)
        assert np.all(steps >= 2 ** (depth - 1))
        assert 0.6 < float(stats["acceptance_rate"].mean()) < 0.98
        assert float(stats["step_size"].min()) > 0.2
        assert len(np.unique(stats["step_size"])) == 2  # one a chain: adaptation is over
        # Energy is potential plus kinetic: the difference is half a chi-square.
        kinetic = stats["energy"] + stats["lp"]
        size = fit.n_parameters
        assert float(kinetic.mean()) == pytest.approx(size / 2, rel=0.25)


def overlapping_lines():
    """The rows of docs/posteriors.md."""
    rng = np.random.default_rng(0)
    z = np.arange(300) % 3 // 2
    x = rng.normal(size=300)
    return {"x": x, "y": np.where(z == 1, 1.0 - x, 1.0 + x) + 0.5 * rng.normal(size=300)}


def lines_of_groups():
    """Rows whose clusters differ in the place of x too, and overlap there."""
    rng = np.random.default_rng(1)
    z = np.arange(300) % 3 // 2
    x = 2.0 * z + rng.normal(size=300)
    return {"x": x, "y": np.where(z == 1, 4.0 - x, x) + 0.7 * rng.normal(size=300)}


@pytest.fixture(scope="module", params=["separated lines", "overlapping lines", "joint model"])
def by_both(request, fit, lines):
    """A fit by NUTS and one by Gibbs sampling."""
    model, data, nuts = fit.model, lines, fit
    if request.param != "separated lines":
        joint = request.param == "joint model"
        data = lines_of_groups() if joint else overlapping_lines()
        model = cw.Model("y ~ x", covariates="x" if joint else None)
        nuts = model.fit(data, engine=QUICK, random_state=0)
    return nuts, model.fit(data, engine=cw.Gibbs(n_init=QUICK.n_init), random_state=0)


def sampled_numbers(fit):
    """Draws (chain, draw) of all numbers that vary, parameters and the log likelihood."""
    tree = fit.posterior
    every = {
        **tree["posterior"].data_vars,
        "log likelihood": tree["sample_stats"]["total_log_likelihood"],
    }
    found = {}
    for name, values in every.items():
        flat = values.to_numpy().reshape(*values.shape[:2], -1)
        found |= {f"{name}[{i}]": flat[..., i] for i in range(flat.shape[2])}
    return {name: draws for name, draws in found.items() if np.ptp(draws) > 0}


def test_draws_are_those_of_gibbs_sampling(by_both):
    nuts, gibbs = map(sampled_numbers, by_both)
    assert set(nuts) == set(gibbs)
    for name, own in nuts.items():
        for method, moment in (("mean", np.mean), ("sd", np.std)):
            # Monte Carlo errors by effective sample sizes (Vehtari et al. 2021).
            errors = [
                array_stats.mcse(draws, chain_axis=0, draw_axis=1, method=method)
                for draws in (own, gibbs[name])
            ]
            # Of some 60 standard normal numbers.
            distance = abs(moment(own) - moment(gibbs[name])) / np.hypot(*errors)
            assert distance < 4, (name, method)


def test_chains_agree_and_seeds_repeat(fit, lines):
    draws = fit.posterior["posterior"]["coefficients"].to_numpy()
    assert np.max(array_stats.rhat(draws, chain_axis=0, draw_axis=1)) < 1.03
    again = cw.Model("y ~ x").fit(lines, engine=QUICK, random_state=0)
    np.testing.assert_array_equal(again.coefficients, fit.coefficients)


def test_real_weights_of_rows_count(lines):
    fit = cw.Model("y ~ x", sample_weight="w").fit(lines, engine=QUICK, random_state=0)
    point = cw.Model("y ~ x", sample_weight="w").fit(lines, engine="em", random_state=0)
    spread = fit.posterior["posterior"]["coefficients"].std(("chain", "draw")).to_numpy()
    error = np.abs(np.asarray(fit.coefficients) - np.asarray(point.coefficients))
    assert np.all(error < spread)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_warmup": 0}, "num_warmup"),
        ({"num_samples": 0}, "num_samples"),
        ({"num_chains": 0}, "num_chains"),
        ({"num_chains": 1.5}, "whole number"),
        ({"target_accept": 1.0}, "between 0 and 1"),
        ({"target_accept": "high"}, "between 0 and 1"),
        ({"max_tree_depth": 0}, "max_tree_depth"),
        ({"max_tree_depth": 40}, "at most 15"),
    ],
)
def test_settings_without_meaning_are_refused(arguments, message):
    with pytest.raises(cw.OptionError, match=message):
        cw.NUTS(**arguments)


def test_a_flat_prior_is_refused(lines):
    with pytest.raises(cw.OptionError, match="proper prior"):
        cw.Model("y ~ x", prior="flat").fit(lines, engine="nuts")
