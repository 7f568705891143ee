"""The NumPyro distribution over rows, against NumPyro's own mixtures and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special, stats

import clusterwise as cw

pytestmark = pytest.mark.long

K, D, N = 3, 2, 40


def parameters(seed=0, batch=()):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(*batch, K, D, D))
    return {
        "weights": rng.dirichlet(np.ones(K), size=batch),
        "coefficients": rng.normal(size=(*batch, K, D + 1)),
        "sigma": rng.uniform(0.5, 1.5, size=(*batch, K)),
        "means": rng.normal(size=(*batch, K, D)),
        "covariances": root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(D),
    }


def conditional(values):
    return {name: values[name] for name in ("weights", "coefficients", "sigma")}


# A program each: operation by operation, there would be some hundred to compile.
log_prob = jax.jit(lambda d, value: d.log_prob(value))
mean_of = jax.jit(lambda d: d.mean)
sample = jax.jit(lambda d, key, shape: d.sample(key, shape), static_argnums=2)


def joint_log_density(p, rows):
    """By SciPy."""
    x, y = rows[:, :-1], rows[:, -1]
    score = [
        np.log(p["weights"][k])
        + stats.multivariate_normal(p["means"][k], p["covariances"][k]).logpdf(x)
        + stats.norm(p["coefficients"][k, 0] + x @ p["coefficients"][k, 1:], p["sigma"][k]).logpdf(
            y
        )
        for k in range(K)
    ]
    return special.logsumexp(score, axis=0)


@pytest.mark.parametrize(("wide", "tolerance"), [(True, 1e-10), (False, 2e-4)])
def test_joint_density_is_scipys(wide, tolerance):
    with jax.enable_x64(wide):
        p = parameters()
        rows = np.random.default_rng(1).normal(size=(N, D + 1))
        d = cw.MixtureOfRegressions(**p, validate_args=True)
        assert (d.batch_shape, d.event_shape) == ((), (D + 1,))
        found = log_prob(d, rows)
        assert found.dtype == (np.float64 if wide else np.float32)
        np.testing.assert_allclose(found, joint_log_density(p, rows), atol=tolerance)
        # The regressors (1, x) given as a design are the same model.
        design = np.column_stack([np.ones(N), rows[:, :-1]])
        d = cw.MixtureOfRegressions(**p, design=design)
        assert d.batch_shape == (N,)
        np.testing.assert_allclose(log_prob(d, rows), found, atol=tolerance)


def test_conditional_density_is_numpyros_mixture():
    p = conditional(parameters(2))
    rng = np.random.default_rng(3)
    design, y = rng.normal(size=(N, D + 1)), rng.normal(size=N)
    with jax.enable_x64(True):
        d = cw.MixtureOfRegressions(**p, design=design)
        assert (d.batch_shape, d.event_shape) == ((N,), ())
        own = dist.Normal(design @ p["coefficients"].T, p["sigma"])
        other = dist.MixtureSameFamily(dist.Categorical(probs=jnp.asarray(p["weights"])), own)
        np.testing.assert_allclose(log_prob(d, y), log_prob(other, y), rtol=1e-10)
        np.testing.assert_allclose(mean_of(d), mean_of(other), rtol=1e-10)


def test_batches_of_parameters():
    with jax.enable_x64(True):
        p = parameters(4, (5, 1))
        rows = np.random.default_rng(5).normal(size=(5, N, D + 1))
        d = cw.MixtureOfRegressions(**p)
        assert d.batch_shape == (5, 1)
        found = log_prob(d, rows)
        assert found.shape == (5, N)
        for i in range(5):
            one = {name: value[i, 0] for name, value in p.items()}
            np.testing.assert_allclose(found[i], joint_log_density(one, rows[i]), atol=1e-10)
        flat = jax.tree.map(lambda leaf: leaf[:, 0], p)
        each = jax.jit(jax.vmap(lambda q, r: cw.MixtureOfRegressions(**q).log_prob(r)))
        mapped = each(flat, rows)
        np.testing.assert_allclose(mapped, found, atol=1e-10)
        assert sample(d, jax.random.key(0), (7,)).shape == (7, 5, 1, D + 1)
        wide = cw.MixtureOfRegressions(**conditional(flat), design=np.ones((N, 1, D + 1)))
        assert wide.batch_shape == (N, 5)


@pytest.mark.parametrize("n", [N, 5000])
def test_gradient_in_all_arguments_is_that_of_the_plain_formula(n):
    """5,000 rows are several chunks, which have a gradient of their own."""
    with jax.enable_x64(True):
        p = jax.tree.map(jnp.asarray, parameters(6))
        rows = jnp.asarray(np.random.default_rng(7).normal(size=(n, D + 1)))
        upstream = np.random.default_rng(8).normal(size=n)

        def plain(p, rows):
            x, y = rows[:, None, :-1], rows[:, -1:]
            mean = p["coefficients"][:, 0] + jnp.sum(p["coefficients"][:, 1:] * x, axis=-1)
            score = (
                jnp.log(p["weights"])
                + dist.MultivariateNormal(p["means"], p["covariances"]).log_prob(x)
                + dist.Normal(mean, p["sigma"]).log_prob(y)
            )
            return upstream @ jax.nn.logsumexp(score, axis=-1)

        def own(p, rows):
            return upstream @ cw.MixtureOfRegressions(**p).log_prob(rows)

        found = jax.jit(jax.value_and_grad(own, argnums=(0, 1)))(p, rows)
        expected = jax.jit(jax.value_and_grad(plain, argnums=(0, 1)))(p, rows)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)


def test_sample_has_the_mixtures_moments():
    p = parameters(9)
    d = cw.MixtureOfRegressions(**p)
    rows = np.asarray(sample(d, jax.random.key(1), (40_000,)))
    error = rows.std(axis=0) / np.sqrt(len(rows))
    assert np.all(np.abs(rows.mean(axis=0) - mean_of(d)) < 5 * error)
    # The average log density is minus the entropy, also by rows from SciPy's story.
    rng = np.random.default_rng(10)
    z = rng.choice(K, size=len(rows), p=p["weights"])
    x = np.stack([rng.multivariate_normal(p["means"][k], p["covariances"][k]) for k in z])
    mean = p["coefficients"][z, 0] + np.sum(p["coefficients"][z, 1:] * x, axis=1)
    other = np.column_stack([x, rng.normal(mean, p["sigma"][z])])
    one, two = joint_log_density(p, rows), joint_log_density(p, other)
    error = np.hypot(one.std(), two.std()) / np.sqrt(len(rows))
    assert abs(one.mean() - two.mean()) < 5 * error
    y = cw.MixtureOfRegressions(**conditional(p), design=np.ones((4, D + 1)))
    assert sample(y, jax.random.key(2), (3,)).shape == (3, 4)


def test_shared_sigma_and_covariance():
    p = parameters(11)
    p |= {"sigma": p["sigma"][:1], "covariances": p["covariances"][:1]}
    rows = np.random.default_rng(12).normal(size=(N, D + 1))
    whole = p | {
        "sigma": np.repeat(p["sigma"], K),
        "covariances": np.repeat(p["covariances"], K, axis=0),
    }
    d = cw.MixtureOfRegressions(**p)
    np.testing.assert_allclose(log_prob(d, rows), joint_log_density(whole, rows), atol=1e-3)
    assert d.sample(jax.random.key(0), (3,)).shape == (3, D + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"covariances": None}, "together"),
        ({"means": None, "covariances": None}, "design"),
        ({"coefficients": np.ones((2, D + 1))}, "coefficients"),
        ({"coefficients": np.ones((K, D))}, "design"),
        ({"sigma": np.ones(2)}, "sigma"),
        ({"covariances": np.ones((K, 1, 1))}, "covariances"),
        ({"design": np.ones((N, 1))}, "design"),
        ({"weights": np.ones((2, K)) / K, "sigma": np.ones((3, K))}, "batch"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(change, message):
    with pytest.raises(cw.OptionError, match=message):
        cw.MixtureOfRegressions(**(parameters() | change))
