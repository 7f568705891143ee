"""Blocks of weights that depend on the row: scores, expansions, and what renumbering does."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from clusterwise.core.product import Product
from clusterwise.core.product_posterior import ProductParameters, ProductPosterior
from clusterwise.core.runtime import Program
from clusterwise.engines.marginal import marginal_log_density
from clusterwise.posteriors.coefficients import Coefficients
from clusterwise.posteriors.gates import SoftmaxGates, StickGates, paths
from clusterwise.regression.logistic import expected_logistic, expected_softmax
from clusterwise.weights.gated import Gated, LogitStickBreaking
from clusterwise.weights.specification import GateDesign
from tests.laws.registry import N_COLUMNS, PARTS, pack, random_values

K, N = 3, 9
COLUMNS = (0, 2)
DESIGN = GateDesign(np.array([[1.0, 0.2], [0.2, 1.5]]), np.array([1.0, 0.2]))
KINDS = {"softmax": Gated("w"), "sticks": LogitStickBreaking("w", 1.7)}
RESP = np.random.default_rng(3).dirichlet(np.ones(K), size=N).T
VALUES = random_values(np.random.default_rng(2), N).T


def log_weights(gates, design):
    """(k, n) by SciPy, clusters of sticks in their order."""
    eta = np.asarray(gates.values) @ design
    if isinstance(gates, SoftmaxGates):
        return special.log_softmax(eta, axis=0)
    left = np.vstack([np.zeros(eta.shape[1]), np.cumsum(special.log_expit(-eta), axis=0)])
    return left + np.vstack([special.log_expit(eta), np.zeros(eta.shape[1])])


class Kind:
    """A block at random gates: what it says of some rows, and derivatives by JAX."""

    def __init__(self, name):
        weights, rng = KINDS[name], np.random.default_rng(1)
        self.block = weights.block(COLUMNS)
        self.prior = weights.prior(K, flat=False, design=DESIGN)
        shape = self.prior.normal.mean.shape
        self.gates, self.others = (
            jax.tree.map(np.asarray, self.prior.gates(Coefficients(rng.normal(size=shape))))
            for _ in range(2)
        )

        def total(free, resp):
            gates = self.prior.gates(Coefficients(free))
            return jnp.sum(resp * self.block.score(gates.moments(), VALUES))

        @Program
        def answers(gates, resp):
            moments = gates.moments()
            free = self.prior.free(gates).values
            statistics = self.block.statistics(moments, VALUES, resp)
            return {
                "score": self.block.score(moments, VALUES),
                "statistics": statistics,
                "posterior": self.block.posterior(statistics, self.prior, moments),
                "free": free,
                "gradient": jax.grad(total)(free, resp),
                "hessian": jax.hessian(total)(free, resp),
                "cross": self.block.cross_score(moments, statistics),
                "log weights": self.block.log_weights(statistics),
                "log prob": self.block.log_prob(statistics),
            }

        self.answers = answers
        self.found = answers(self.gates, RESP)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return Kind(request.param)


def test_score_at_a_point_is_scipys(kind):
    expected = log_weights(kind.gates, VALUES[list(COLUMNS)])
    np.testing.assert_allclose(kind.found["score"], expected, rtol=1e-12, atol=1e-12)


def test_the_posterior_is_that_of_the_second_derivatives(kind):
    """Against automatic differentiation of the weighted sum of scores."""
    free, posterior, prior = kind.found["free"], kind.found["posterior"].normal, kind.prior.normal
    size = free.size
    hessian = np.asarray(kind.found["hessian"]).reshape(size, size)

    def dense(blocks):
        return np.asarray(jax.scipy.linalg.block_diag(*blocks))

    gained = dense(posterior.own) - dense(prior.own)
    np.testing.assert_allclose(gained, -hessian, rtol=1e-9, atol=1e-10)
    # At the expansion's point the gradients of posterior and target agree.
    slope = dense(posterior.own) @ np.ravel(posterior.mean - free)
    expected = np.ravel(kind.found["gradient"]) + dense(prior.own) @ np.ravel(prior.mean - free)
    np.testing.assert_allclose(slope, expected, rtol=1e-9, atol=1e-10)


def test_sums_of_log_weights(kind):
    expected = RESP @ log_weights(kind.gates, VALUES[list(COLUMNS)]).T
    np.testing.assert_allclose(kind.found["log weights"], expected, rtol=1e-12)
    np.testing.assert_allclose(kind.found["log prob"], np.diag(expected), rtol=1e-12)
    # Of each cluster's rows known up to a constant.
    gap = np.asarray(kind.found["cross"]) - expected
    np.testing.assert_allclose(gap, np.broadcast_to(gap[:, :1], gap.shape), atol=1e-10)


def test_renumbering_rows_clusters_renumbers_the_leading_axis_of_statistics(kind):
    order = np.array([2, 0, 1])
    again = kind.answers(kind.gates, RESP[order])["statistics"]
    for one, other in zip(kind.found["statistics"], again, strict=True):
        np.testing.assert_allclose(np.asarray(one)[order], other, rtol=1e-12, atol=1e-12)


def test_renumbered_gates_give_renumbered_weights(kind):
    order = np.array([2, 0, 1])
    moved = jax.tree.map(lambda a: a[order] if len(a) == K else a, kind.gates)
    again = kind.answers(moved, RESP)["score"]
    np.testing.assert_allclose(again, np.asarray(kind.found["score"])[order], rtol=1e-12)


def test_the_gradient_that_nuts_takes(kind):
    """Of the log density with clusters summed out, against finite differences."""
    part = PARTS["response"]
    block = Product((kind.block, part.block), N_COLUMNS)
    normals = part.draw(np.random.default_rng(4), K)
    packed = jax.tree.map(jnp.asarray, pack(VALUES.T, np.linspace(0.5, 2, N)))

    @Program
    def value_and_gradient(free):
        def log_density(free):
            gates = kind.prior.gates(Coefficients(free))
            parameters = ProductParameters((gates, normals))
            return marginal_log_density(block, parameters.moments(), packed)

        return jax.value_and_grad(log_density)(free)

    free = np.asarray(kind.found["free"])
    found = np.asarray(value_and_gradient(free)[1])
    for place in np.ndindex(free.shape):
        step = np.zeros_like(free)
        step[place] = 1e-5
        slope = (value_and_gradient(free + step)[0] - value_and_gradient(free - step)[0]) / 2e-5
        np.testing.assert_allclose(found[place], slope, rtol=1e-7, atol=1e-8)


def test_the_softmax_prior_knows_no_order():
    prior = KINDS["softmax"].prior(K, flat=False, design=DESIGN)
    values = np.random.default_rng(5).normal(size=(K, 2))
    values -= values.mean(axis=0)
    log_prob = Program(lambda v: prior.log_prob(SoftmaxGates(v, jnp.zeros(K))))
    found = [float(log_prob(values[list(o)])) for o in itertools.permutations(range(K))]
    np.testing.assert_allclose(found, found[0], rtol=1e-12)
    # Log odds of two clusters in a row that is like the average one.
    moments = Program(type(prior).moments)(prior)
    spread = np.asarray(moments.spread[0] - moments.spread[1])
    np.testing.assert_allclose(
        spread.T @ spread, np.pi**2 / 3 * np.linalg.inv(DESIGN.gram), rtol=1e-10
    )


def test_sticks_of_the_prior_are_like_those_of_a_dirichlet_process():
    """Mean and variance of the log odds of Beta(1, concentration), at a row of the constant."""
    prior = KINDS["sticks"].prior(K, flat=False).normal
    log_odds = special.logit(stats.beta(1, 1.7).rvs(200_000, random_state=6))
    np.testing.assert_allclose(prior.mean, log_odds.mean(), atol=5 * 2 / np.sqrt(200_000))
    np.testing.assert_allclose(1 / prior.own, log_odds.var(), rtol=0.02)


def nodes(mean, root, n=40):
    """Predictors (nodes, k), and weights, of a product rule for two normal deviations."""
    points, weights = np.polynomial.hermite_e.hermegauss(n)
    grid = np.stack(np.meshgrid(points, points, indexing="ij"), axis=-1).reshape(-1, 2)
    return mean + grid @ root.T, np.outer(weights, weights).ravel() / weights.sum() ** 2


def test_the_expected_normaliser_is_bounded_from_above_and_closely():
    rng = np.random.default_rng(7)
    mean, root = rng.normal(size=(K, 20)), rng.normal(size=(K, 2, 20))
    bound = Program(expected_softmax)
    gaps = []
    for size in (0.1, 0.2, 0.5):
        found = bound(mean, size * root)
        exact = []
        for r in range(20):
            at, weights = nodes(mean[:, r], size * root[:, :, r])
            exact.append(weights @ special.logsumexp(at, axis=1))
        gaps.append(np.asarray(found.normaliser) - exact)
    assert np.min(gaps) >= -1e-12
    # Of fourth order: half the spread, a sixteenth of the gap.
    assert 12 < np.mean(gaps[1]) / np.mean(gaps[0]) < 20
    assert np.max(gaps[2]) < 0.1


def test_probabilities_are_the_derivatives_of_the_bound():
    rng = np.random.default_rng(8)
    mean, root = rng.normal(size=(K, 4)), 0.5 * rng.normal(size=(K, 2, 4))

    @Program
    def derivatives(mean, root):
        def total(mean, root):
            return jnp.sum(expected_softmax(mean, root).normaliser)

        return expected_softmax(mean, root), *jax.grad(total, argnums=(0, 1))(mean, root)

    (_, w), in_mean, in_root = derivatives(mean, root)
    w = np.asarray(w)
    np.testing.assert_allclose(in_mean, w, atol=1e-5)
    curvature = np.einsum("kr,kl->klr", w, np.eye(K)) - w[:, None] * w[None]
    # With V = root root^T and half the curvature as derivative in V.
    np.testing.assert_allclose(in_root, np.einsum("klr,lmr->kmr", curvature, root), atol=1e-5)


def test_expectations_of_a_stick_are_quadrature():
    mean, size = np.linspace(-3, 3, 7)[None], 1.3
    found = Program(expected_logistic)(mean, np.full((1, 1, 7), size))
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    eta = mean[0] + size * points[:, None]
    weights = weights / weights.sum()
    taken = weights @ special.log_expit(eta)
    share = special.expit(eta)
    np.testing.assert_allclose(found.log_taken[0], taken, atol=1e-6)
    np.testing.assert_allclose(found.log_left[0], taken - mean[0], atol=1e-6)
    np.testing.assert_allclose(found.probability[0], weights @ share, atol=1e-5)
    np.testing.assert_allclose(found.curvature[0], weights @ (share * (1 - share)), atol=1e-4)


def test_coordinates_of_gates(kind):
    coordinates, free = kind.found["posterior"].coordinates(), kind.found["free"]

    @Program
    def there_and_back(gates):
        z = coordinates.unconstrain(gates)
        back, log_det = coordinates.constrain(z)
        own = jax.jacobian(lambda at: kind.prior.free(coordinates.constrain(at)[0]).values)(z)
        return back.values, log_det, own.reshape(z.size, z.size)

    values, log_det, jacobian = there_and_back(kind.gates)
    np.testing.assert_allclose(values, kind.gates.values, rtol=1e-9, atol=1e-10)
    assert float(log_det) == pytest.approx(np.linalg.slogdet(np.asarray(jacobian))[1])
    assert coordinates.size == free.size


def test_averages_of_sticks_are_over_the_commonest_order():
    rng, orders = np.random.default_rng(9), [[0, 1, 2], [1, 0, 2], [1, 0, 2], [1, 2, 0]]
    path = np.array([paths(K)[order] for order in orders]).reshape(2, 2, K, K - 1)
    values, weights = rng.normal(size=(2, 2, K - 1, 2)), rng.dirichlet(np.ones(K), size=(2, 2))
    mean = StickGates(*map(jnp.asarray, (path, values, np.log(weights)))).mean_of_draws()
    np.testing.assert_array_equal(mean.places(), [1, 0, 2])
    np.testing.assert_allclose(mean.values, values.reshape(4, 2, 2)[1:3].mean(axis=0))
    np.testing.assert_allclose(np.exp(mean.log_weights), weights.mean(axis=(0, 1)))


def test_products_say_what_their_weights_are(kind):
    part = PARTS["response"]
    gated = Product((kind.block, part.block), N_COLUMNS)
    assert gated.gated and not gated.exact
    constant = Product((PARTS["dirichlet"].block, part.block), N_COLUMNS)
    assert not constant.gated and constant.exact
    parts = (kind.prior, part.prior(K))
    assert ProductPosterior(parts).has_order == isinstance(kind.gates, StickGates)
