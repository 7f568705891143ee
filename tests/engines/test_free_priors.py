"""Any NumPyro distribution as a prior: its density on the data's scale, and its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions.transforms import PowerTransform

import clusterwise as cw
from clusterwise.assembly.assemble import assemble
from clusterwise.frames.table import open_table

pytestmark = pytest.mark.long

QUICK = cw.NUTS(num_warmup=150, num_samples=250, num_chains=2, n_init=2)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    label = rng.random(150) < 0.4
    x = rng.normal(size=(150, 2)) + np.where(label, 1.0, -1.0)[:, None]
    y = 20 + np.where(label, 2.0, -1.0) * x[:, 0] + 0.3 * rng.normal(size=150)
    return {"x1": 5 + 10 * x[:, 0], "x2": x[:, 1] / 50, "y": y}


def assembled_of(model, data):
    table = open_table(data)
    return assemble(model.specification(table.names), table, np.random.default_rng(0))


def root_of_inverse_gamma(shape, rate):
    return dist.TransformedDistribution(dist.InverseGamma(shape, rate), PowerTransform(0.5))


def difference(conjugate, free, data):
    """Log densities of a free prior less those of the conjugate one that says the same."""
    one, other = (assembled_of(model, data).problem for model in (conjugate, free))
    assert one.free_prior is None

    @jax.jit
    def densities(key):
        point = one.prior.sample(key)
        found = other.free_prior.unnormalised_log_prob(point)
        return found - one.prior.unnormalised_log_prob(point)

    return np.array([densities(jax.random.key(i)) for i in range(5)])


def test_normal_prior_of_coefficients_and_means(data):
    known = {
        "family": cw.Gaussian(sigma=0.3),
        "covariates": [
            cw.GaussianCovariates("x1 + x2", covariance_type="spherical", covariance=0.5)
        ],
    }
    conjugate = cw.Model(
        "y ~ x1",
        prior={"y": cw.Normal([20, 0], [100, 4]), "covariates": cw.Normal([5, 0], 10)},
        **known,
    )
    free = cw.Model(
        "y ~ x1",
        prior={
            "y": {"coefficients": dist.Normal(jnp.array([20.0, 0.0]), jnp.array([10.0, 2.0]))},
            "covariates": {
                "means": dist.MultivariateNormal(jnp.array([5.0, 0.0]), 10 * jnp.eye(2))
            },
        },
        **known,
    )
    with jax.enable_x64(True):
        found = difference(conjugate, free, data)
    np.testing.assert_allclose(found, found[0], rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    "form", [pytest.param("full", marks=pytest.mark.slow), "diag", "spherical"]
)
def test_priors_of_sigma_and_covariances(form, data):
    """The inverse gamma or Wishart that a conjugate prior has of them."""
    covariates = [cw.GaussianCovariates("x1 + x2", covariance_type=form)]
    plain = cw.Model("y ~ x1", covariates=covariates)
    with jax.enable_x64(True):
        assembled = assembled_of(plain, data)
        _, response, density = assembled.problem.prior.parts
        scale = np.array(
            [
                assembled.prepared.layout.scale_of(i)
                for p in assembled.prepared.layout.parts
                for i in p.responses
            ]
        )
        sigma = root_of_inverse_gamma(
            response.covariance.dof[0] / 2, response.covariance.scale[0, 0, 0] / 2 * scale[0] ** 2
        )
        own = density.covariance
        if form == "full":
            entry = {
                "covariance": dist.InverseWishart(
                    own.dof[0],
                    scale_matrix=jnp.asarray(own.scale[0] * np.outer(scale[1:], scale[1:])),
                )
            }
        else:
            rate = own.rate[0] * scale[1 : 1 + own.rate.shape[1]] ** 2
            entry = {"sigma": root_of_inverse_gamma(jnp.asarray(own.shape[0]), jnp.asarray(rate))}
        free = cw.Model(
            "y ~ x1", covariates=covariates, prior={"y": {"sigma": sigma}, "covariates": entry}
        )
        found = difference(plain, free, data)
    np.testing.assert_allclose(found, found[0], rtol=1e-9, atol=1e-6)


def test_draws_follow_the_prior(data, tmp_path):
    """A prior of the intercept that is sharper than the data; it is saved with the fit."""
    sharp = dist.Normal(jnp.array([20.0, 0.0]), jnp.array([0.02, 1.0]))
    prior = {"y": {"coefficients": sharp, "sigma": dist.Gamma(2.0, 1.0)}}
    fit = cw.Model("y ~ x1", n_components=2, prior=prior).fit(data, engine=QUICK, random_state=0)
    intercept = fit.posterior["posterior"]["coefficients"].sel(coef="Intercept")
    np.testing.assert_allclose(intercept.mean(("chain", "draw")), 20, atol=0.06)
    np.testing.assert_allclose(intercept.std(("chain", "draw")), 0.02, rtol=0.3)
    fit.save(tmp_path / "fit")
    again = cw.load(tmp_path / "fit").model.prior["y"]["coefficients"]
    np.testing.assert_allclose(again.scale, [0.02, 1.0], rtol=1e-6)


def test_other_engines_say_which_prior_they_cannot_take(data):
    model = cw.Model("y ~ x1", prior={"y": {"sigma": dist.HalfNormal(1.0)}})
    for engine in ("em", "vi", "svi", "memoized", "gibbs"):
        with pytest.raises(cw.OptionError, match=r"prior\['y'\]: use engine='nuts'"):
            model.fit(data, engine=engine)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"y": {"slope": dist.Normal(0, 1)}}, "takes 'coefficients', 'sigma'"),
        ({"y": {"sigma": 3.0}}, "NumPyro distribution"),
        ({"y": {"sigma": dist.Normal(5, 0.1)}}, "positive numbers"),
        ({"y": {"coefficients": dist.Normal(0, [1.0, 2.0])}}, "arrays, not lists"),
        ({"y": {"coefficients": dist.Poisson(3.0)}}, "real numbers"),
        ({"y": {"coefficients": dist.Normal(jnp.zeros(3), 1)}}, r"must be \(2,\)"),
        ({"y": {"coefficients": dist.Normal(jnp.zeros((2, 2)), 1)}}, "Clusters have no order"),
        ({"covariates": {"covariance": dist.HalfNormal(1.0)}}, r"must be \(2, 2\)"),
        ({"covariates": {"sigma": dist.HalfNormal(1.0)}}, "'diag' or 'spherical'"),
        (
            {"covariates": {"sigma": dist.HalfNormal(1.0), "covariance": dist.HalfNormal(1.0)}},
            "not both",
        ),
    ],
)
def test_distributions_that_are_no_priors_here_are_refused(prior, message, data):
    with pytest.raises(cw.OptionError, match=message):
        cw.Model("y ~ x1", covariates="x1 + x2", prior=prior).fit(data, engine=QUICK)


def test_prior_of_what_is_known_is_refused(data):
    model = cw.Model(
        "y ~ x1", family=cw.Gaussian(sigma=1.0), prior={"y": {"sigma": dist.HalfNormal(1.0)}}
    )
    with pytest.raises(cw.OptionError, match="known"):
        model.fit(data, engine=QUICK)
