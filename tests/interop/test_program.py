"""Models as NumPyro programs: the density is the model's, and NumPyro's tools run on them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.handlers import seed, substitute, trace, uncondition
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, log_likelihood
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import log_density
from scipy import special, stats

import clusterwise as cw
from clusterwise.assembly.assemble import assemble
from clusterwise.assembly.units import in_data_units
from clusterwise.engines.marginal import marginal_log_density
from clusterwise.frames.table import open_table

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    label = rng.random(120) < 0.4
    x = rng.normal(size=(120, 2)) + np.where(label, 1.0, -1.0)[:, None]
    y = 50 + 10 * (np.where(label, 2.0, -1.0) * x[:, 0] + 0.3 * rng.normal(size=120))
    return {"x1": 100 + x[:, 0], "x2": x[:, 1] / 50, "y": y, "w": rng.uniform(0.5, 2, size=120)}


MODELS = {
    "joint": cw.Model("y ~ x1 + x2", covariates="x2 + x1"),
    "conditional": cw.Model(
        "y ~ 0 + x1 + I(x1**2)", weights=cw.DirichletProcess(cw.Gamma(20, 4)), n_components=3
    ),
    "shared": cw.Model(
        "y ~ x1",
        family=cw.Gaussian(shared_sigma=True),
        weights=cw.PitmanYor(0.2, 1.5),
        covariates=[cw.GaussianCovariates("x1 + x2", covariance_type="tied")],
    ),
    "diagonal": cw.Model(
        "y ~ x1 * x2", covariates=[cw.GaussianCovariates("x1 + x2", covariance_type="diag")]
    ),
    "spherical": cw.Model(
        "y ~ x2",
        family=cw.Gaussian(sigma=3.0),
        covariates=[cw.GaussianCovariates("x1 + x2", covariance_type="spherical")],
        sample_weight="w",
    ),
    "free": cw.Model(
        "y ~ x1",
        covariates="x1 + x2",
        prior={
            "y": {
                "coefficients": dist.Normal(0, jnp.array([100.0, 10.0])),
                "sigma": dist.HalfNormal(5.0),
            },
            "covariates": {
                "means": dist.MultivariateNormal(jnp.array([100.0, 0.0]), jnp.diag(jnp.ones(2))),
                "covariance": dist.InverseWishart(5.0, scale_matrix=jnp.diag(jnp.array([1, 1e-3]))),
            },
        },
    ),
    "free, diagonal": cw.Model(
        "y ~ x1",
        family=cw.Gaussian(shared_sigma=True),
        covariates=[cw.GaussianCovariates("x1 + x2", covariance_type="diag")],
        prior={"y": {"sigma": dist.Gamma(2.0, 0.5)}, "covariates": {"sigma": dist.HalfCauchy(1.0)}},
    ),
    "plain": cw.Model(
        covariates=[
            cw.GaussianCovariates("x1 + y"),
            cw.GaussianCovariates("x2", covariance=2e-4),
        ]
    ),
}


def sites(values, model, layout):
    """The program's sites of parameters in data units."""
    found = {}
    if isinstance(model.weights, (cw.PitmanYor, cw.DirichletProcess)):
        left = 1 - np.concatenate([[0], np.cumsum(values.weights[:-2])])
        found["sticks"] = values.weights[:-1] / left
        if isinstance(model.weights, cw.DirichletProcess):
            found["concentration"] = values.concentration
    else:
        found["weights"] = values.weights
    densities = [p for p in layout.parts if not p.is_response]
    for part, value in zip(layout.parts, values.parts, strict=True):
        if part.is_response:
            found["coefficients"] = value.coefficients[:, list(part.kept_terms), 0]
            sigma = np.sqrt(value.covariance[:, 0, 0])
            found["sigma"] = sigma[:1] if model.family != "gaussian" else sigma
            continue
        suffix = f"_{densities.index(part)}" if len(densities) > 1 else ""
        found[f"means{suffix}"] = value.coefficients[:, 0, :]
        covariance, form = value.covariance, "full"
        if not isinstance(model.covariates, str):
            form = model.covariates[densities.index(part)].covariance_type
        if form in ("diag", "spherical"):
            variances = np.diagonal(covariance, axis1=1, axis2=2)
            found["variances" + suffix] = variances[:, :1] if form == "spherical" else variances
            found["deviations" + suffix] = np.sqrt(variances)
        else:
            found["covariance" + suffix] = covariance[:1] if form == "tied" else covariance
    return found


def names_of_sites(program):
    """Sites that are not observed; no number is computed."""
    found = {}

    def run(key):
        found.update(trace(seed(program, key)).get_trace())
        return key

    jax.eval_shape(run, jax.random.key(0))
    return {n for n, s in found.items() if s["type"] == "sample" and not s["is_observed"]}


SLOW = ("shared", "free, diagonal")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in MODELS]
)
def test_density_is_the_models(name, data):
    """Up to the constant volume of the units, and that of sigma against its square."""
    model = MODELS[name]
    with jax.enable_x64(True):
        table = open_table(data)
        assembled = assemble(model.specification(table.names), table, np.random.default_rng(0))
        prior, rows = assembled.problem.prior, assembled.problem.source.block(0)
        free = assembled.problem.free_prior
        own = prior if free is None else free
        program = model.numpyro(data)
        expected_sites = names_of_sites(program)
        keys = [jax.random.key(i) for i in range(4)]
        drawn = jax.jit(lambda keys: jax.lax.map(prior.sample, keys))(jnp.stack(keys))
        points = [jax.tree.map(lambda leaf, i=i: leaf[i], jax.device_get(drawn)) for i in range(4)]
        given = [
            sites(in_data_units(assembled.prepared.layout, point), model, assembled.prepared.layout)
            for point in points
        ]
        given = [{key: site[key] for key in site if key in expected_sites} for site in given]
        assert all(set(site) == expected_sites for site in given)

        # One program for all points: compiling is what takes the time.
        @jax.jit
        def densities(points, given):
            def at(both):
                point, site = both
                score = marginal_log_density(assembled.problem.block, point.moments(), rows)
                own_density = own.unnormalised_log_prob(point) + score
                return own_density, log_density(program, (), {}, site)[0]

            return jax.lax.map(at, (points, given))

        expected, found = jax.device_get(
            densities(drawn, jax.tree.map(lambda *leaves: np.stack(leaves), *given))
        )
    difference = found - expected
    for i, site in enumerate(given):
        for deviations in ("sigma", "deviations"):
            if deviations in site:
                difference[i] -= np.log(site[deviations]).sum()
        if "sticks" in site:
            later = np.arange(len(site["sticks"]) - 1, 0, -1)
            difference[i] -= np.log1p(-site["sticks"])[:-1] @ later
    assert np.isfinite(difference).all()
    np.testing.assert_allclose(difference, difference[0], rtol=1e-8, atol=1e-6)


def test_log_likelihood_of_rows_is_the_fits(data):
    model = MODELS["joint"]
    fit = model.fit(data, engine="em", random_state=0)
    point = {
        "weights": fit.weights.to_numpy(),
        "coefficients": fit.coefficients.to_numpy(),
        "sigma": fit.dispersion["sigma"].to_numpy(),
        "means": fit.means.to_numpy(),
        "covariance": np.stack([c.to_numpy() for c in fit.covariances]),
    }
    with jax.enable_x64(True):
        program = model.numpyro(data)
        found = jax.jit(partial(log_likelihood, program))({k: v[None] for k, v in point.items()})
    np.testing.assert_allclose(found["obs"][0], fit.score_samples(data), rtol=1e-8)


def test_rows_are_drawn_with_the_response_that_goes_with_their_covariates(data):
    truth = {
        "weights": np.array([0.5, 0.5]),
        "coefficients": np.array([[0.0, 1.0, 0.0], [5.0, 0.0, 100.0]]),
        "sigma": np.full(2, 1e-2),
        "means": np.array([[0.0, 90.0], [1.0, 110.0]]),
        "covariance": np.broadcast_to(np.eye(2), (2, 2, 2)),
    }
    program = substitute(uncondition(MODELS["joint"].numpyro(data)), truth)
    rows = jax.jit(Predictive(program, num_samples=3))(jax.random.key(0))["obs"]
    rows = np.asarray(rows).reshape(-1, 3)
    low = np.abs(rows[:, 1] - 90) < 8
    np.testing.assert_allclose(rows[low, 2], rows[low, 1], atol=0.1)
    np.testing.assert_allclose(rows[~low, 2], 5 + 100 * rows[~low, 0], atol=0.1)


def test_guides_fit_in_single_precision(data):
    program = MODELS["joint"].numpyro(data)
    guide = AutoNormal(program)
    svi = SVI(program, guide, numpyro.optim.Adam(0.02), Trace_ELBO())
    # Compiled whole: setting a guide up runs the program operation by operation.
    losses = np.asarray(
        jax.jit(lambda key: svi.run(key, 400, progress_bar=False).losses)(jax.random.key(0))
    )
    assert losses.dtype == np.float32
    assert np.isfinite(losses).all()
    assert losses[-50:].mean() < losses[:50].mean() - 100


def samples(mcmc, key):
    """Draws, the sampler compiled whole: its start runs the program operation by operation."""

    def run(key):
        mcmc.run(key)
        return mcmc.get_samples()

    return jax.jit(run)(key)


@pytest.mark.slow
def test_numpyros_own_sampler_agrees_with_gibbs(data):
    # NumPyro samples in the data's own units, so these are kind ones; chains start at the fit.
    data = {"x1": data["x1"] - 100, "x2": 50 * data["x2"], "y": data["y"] / 10 - 5}
    model = MODELS["joint"]
    gibbs = model.fit(data, engine="gibbs", random_state=0).posterior["posterior"].dataset
    names = ("weights", "coefficients", "sigma", "means", "covariance")
    with jax.enable_x64(True):
        start = {n: jnp.asarray(gibbs[n].mean(("chain", "draw")).to_numpy()) for n in names}
        init = numpyro.infer.init_to_value(values=start)
        kernel = NUTS(model.numpyro(data), init_strategy=init)
        mcmc = MCMC(kernel, num_warmup=150, num_samples=300, progress_bar=False)
        draws = samples(mcmc, jax.random.key(1))
    for name in names:
        own = np.asarray(draws[name])
        other = gibbs[name].to_numpy().reshape(-1, *gibbs[name].shape[2:])
        error = np.abs(own.mean(axis=0) - other.mean(axis=0))
        assert np.all(error < 0.3 * other.std(axis=0)), name
        np.testing.assert_allclose(own.std(axis=0), other.std(axis=0), rtol=0.3)


def test_distribution_in_a_program_of_ones_own():
    """One sigma for all clusters, single precision, under a plate."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    y = np.where(rng.random(400) < 0.3, 2 * x, 1 - x) + 0.1 * rng.normal(size=400)
    design = np.column_stack([np.ones(400), x])

    def program():
        weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(2)))
        slope = numpyro.sample("slope", dist.Normal(0, 5).expand([2]).to_event(1))
        start = numpyro.sample("start", dist.Normal(0, 5).expand([2]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        rows = cw.MixtureOfRegressions(
            weights, jnp.column_stack([start, slope]), sigma[None], design=design
        )
        with numpyro.plate("rows", 400):
            numpyro.sample("y", rows, obs=y)

    start = {"slope": jnp.array([1.5, -0.5]), "start": jnp.array([0.1, 0.8])}
    kernel = NUTS(program, init_strategy=numpyro.infer.init_to_value(values=start))
    mcmc = MCMC(kernel, num_warmup=300, num_samples=300, progress_bar=False)
    draws = samples(mcmc, jax.random.key(0))
    mean = {name: np.asarray(value.mean(axis=0)) for name, value in draws.items()}
    np.testing.assert_allclose(mean["slope"], [2, -1], atol=0.06)
    np.testing.assert_allclose(mean["start"], [0, 1], atol=0.06)
    assert float(mean["sigma"]) == pytest.approx(0.1, abs=0.02)
    score = np.stack(
        [
            np.log(mean["weights"][k])
            + stats.norm(mean["start"][k] + mean["slope"][k] * x, mean["sigma"]).logpdf(y)
            for k in range(2)
        ]
    )
    given = {name: value[None] for name, value in mean.items()}
    found = jax.jit(partial(log_likelihood, program))(given)["y"][0]
    np.testing.assert_allclose(found, special.logsumexp(score, axis=0), atol=1e-3)


def test_what_a_program_cannot_be_is_refused(data):
    with pytest.raises(cw.OptionError, match="one response"):
        cw.Model(["y ~ x1", "x2 ~ x1"]).numpyro(data)
    with pytest.raises(cw.OptionError, match="flat"):
        cw.Model("y ~ x1", prior="flat").numpyro(data)
