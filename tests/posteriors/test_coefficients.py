"""Normal coefficients, some of them shared, against dense normal distributions of all of them."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from clusterwise.core.errors import OptionError
from clusterwise.posteriors.coefficients import Coefficients, NormalCoefficients
from clusterwise.posteriors.places import Places, component_kinds

pytestmark = pytest.mark.long

K, D = 3, 4
# Pairs of a place that is shared and the group of each cluster; places that are known.
PAIR = (0, 1, 0)
LAYOUTS = {
    "own": ((), ()),
    "one shared": (((1, ()),), ()),
    "two shared": (((3, ()), (0, ())), ()),
    "all shared": (tuple((i, ()) for i in range(D)), ()),
    "in groups": (((1, PAIR),), ()),
    "two in groups": (((3, PAIR), (0, PAIR)), ()),
    "known": ((), (2,)),
    "shared, in a group, and known": (((1, ()), (3, PAIR)), (0,)),
}
N_DRAWS = 40_000


def random_precision(rng, *lead):
    root = rng.normal(size=(*lead, D, D + 2))
    return root @ np.swapaxes(root, -1, -2)


class Dense:
    """One normal over each cluster's own coefficients in turn, then the shared ones.

    In the prior every cluster's coefficients have the same distribution, and those of two clusters
    depend on each other by what they share only.
    """

    def __init__(self, shared, known, mean, precision):
        free = [i for i in range(D) if i not in known]
        own = [i for i in free if i not in dict(shared)]
        names = [(k, i) for k in range(K) for i in own]
        for place, groups in shared:
            names += [("shared", place, g) for g in range(max(groups, default=0) + 1)]

        def name(k, i):
            if i in dict(shared):
                return ("shared", i, (dict(shared)[i] or (0,) * K)[k])
            return (k, i)

        self.places = np.full((K, D), -1)
        for k in range(K):
            self.places[k, free] = [names.index(name(k, i)) for i in free]
        self.free, self.known = free, {i: mean[:, i] for i in known}
        # Given the known ones.
        covariance = np.linalg.inv(precision[np.ix_(free, free)])
        both = [i for i in free if i in dict(shared)]
        at = [free.index(i) for i in both]
        slope = np.linalg.lstsq(covariance[np.ix_(at, at)], covariance[at], rcond=None)[0].T
        rest = covariance - slope @ covariance[at]
        # Every free coefficient from the shared ones and noise of its cluster's own.
        size = len(names)
        self.covariance_of = np.zeros((size, size))
        self.mean = np.zeros(size)
        shared_covariance = np.zeros((size, size))
        for k in range(K):
            for a, i in zip(at, both, strict=True):
                for b, j in zip(at, both, strict=True):
                    pair = self.places[k, i], self.places[k, j]
                    shared_covariance[pair] = covariance[a, b]
        lift = np.zeros((size, size))
        noise = np.zeros((size, size))
        for k in range(K):
            place = self.places[k, free]
            self.mean[place] = mean[k, free]
            for row, i in zip(place, free, strict=True):
                if i in both:
                    lift[row, row] = 1
                else:
                    lift[row, self.places[k, both]] = slope[free.index(i)]
            mine = [r for r, i in zip(place, free, strict=True) if i not in both]
            within = [free.index(i) for i in own]
            noise[np.ix_(mine, mine)] = rest[np.ix_(within, within)]
        self.precision = np.linalg.inv(lift @ shared_covariance @ lift.T + noise)

    def update(self, precision, shift):
        right = self.precision @ self.mean
        for k in range(K):
            at, held = self.places[k, self.free], list(self.known)
            values = np.array([self.known[i][k] for i in held])
            pull = shift[k] - precision[k][:, held] @ values if held else shift[k]
            np.add.at(self.precision, np.ix_(at, at), precision[k][np.ix_(self.free, self.free)])
            np.add.at(right, at, pull[self.free])
        self.mean = np.linalg.solve(self.precision, right)

    @property
    def covariance(self):
        return np.linalg.inv(self.precision)

    @property
    def normal(self):
        return stats.multivariate_normal(self.mean, self.covariance)

    def by_cluster(self, vector):
        found = vector[..., self.places]
        for i, value in self.known.items():
            found[..., i] = value
        return found

    def vector(self, values):
        found = np.zeros(self.mean.size)
        found[self.places[:, self.free]] = np.asarray(values)[:, self.free]
        return found

    def kl(self, other):
        gap = other.mean - self.mean
        logs = np.linalg.slogdet(self.precision)[1] - np.linalg.slogdet(other.precision)[1]
        trace = np.trace(other.precision @ self.covariance)
        return 0.5 * (trace - gap.size + gap @ other.precision @ gap + logs)


def make(layout, seed, updates=1, known_at=0.3):
    """A distribution and its dense counterpart, after some updates of a random prior."""
    shared, known = LAYOUTS[layout]
    rng = np.random.default_rng(seed)
    mean, precision = rng.normal(size=(K, D)), random_precision(rng)
    mean[:, list(dict(shared))] = mean[0, list(dict(shared))]
    mean[:, list(known)] = known_at
    for place, groups in shared:
        others = [i for i in range(D) if dict(shared).get(i) != groups and i in dict(shared)]
        # Coefficients that different groups share are independent.
        precision[place, others] = precision[others, place] = 0.0
        if groups or any(dict(shared)[i] for i in others):
            precision[place, [i for i in range(D) if i not in dict(shared)]] = 0.0
            precision[[i for i in range(D) if i not in dict(shared)], place] = 0.0
    # Known ones are given: what they say of the others is in their mean.
    precision[list(known), :] = precision[:, list(known)] = 0.0
    precision[list(known), list(known)] = 1.0
    found = NormalCoefficients.of_each(mean, precision, Places.of(K, D, shared, known))
    dense = Dense(shared, known, mean, precision)
    for _ in range(updates):
        more, shift = random_precision(rng, K), rng.normal(size=(K, D))
        found = found.updated(jnp.asarray(more), jnp.asarray(shift))
        dense.update(more, shift)
    return found, dense


@pytest.fixture(params=LAYOUTS)
def shared(request):
    return request.param


@pytest.mark.parametrize("updates", [0, 1, 2])
def test_updates_are_those_of_one_dense_normal(shared, updates):
    found, dense = make(shared, 1, updates)
    np.testing.assert_allclose(found.mean, dense.by_cluster(dense.mean), rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(found.mode().values, found.mean)


def test_moments_have_the_covariance_of_each_cluster(shared):
    found, dense = make(shared, 2)
    values, spread, _ = found.moments()
    np.testing.assert_allclose(values, dense.by_cluster(dense.mean), rtol=1e-9, atol=1e-10)
    for k, at in enumerate(dense.places):
        own = dense.covariance[np.ix_(at, at)] * ((at >= 0)[:, None] & (at >= 0))
        np.testing.assert_allclose(spread[k].T @ spread[k], own, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.spread().rows[k], own, rtol=1e-8, atol=1e-10)


def test_log_densities_are_those_of_one_dense_normal(shared):
    found, dense = make(shared, 3)
    at = [dense.normal.rvs(random_state=seed) for seed in range(3)]
    own = [Coefficients(jnp.asarray(dense.by_cluster(vector))) for vector in at]
    expected = [dense.normal.logpdf(vector) for vector in at]
    np.testing.assert_allclose([found.log_prob(one) for one in own], expected, rtol=1e-9)
    for one, other in pairwise(range(3)):
        gap = expected[one] - expected[other]
        kernels = [found.log_kernel(own[one]), found.unnormalised_log_prob(own[other])]
        assert kernels[0] - kernels[1] == pytest.approx(float(gap), rel=1e-8)
    assert found.log_kernel(found.mode()) == pytest.approx(0, abs=1e-12)


def test_log_density_by_cluster():
    found, dense = make("own", 4)
    values = dense.by_cluster(dense.normal.rvs(random_state=0))
    expected = [
        stats.multivariate_normal(
            dense.mean[at], np.linalg.inv(dense.precision[np.ix_(at, at)])
        ).logpdf(own)
        for at, own in zip(dense.places, values, strict=True)
    ]
    by_cluster = found.log_prob_by_cluster(Coefficients(jnp.asarray(values)))
    np.testing.assert_allclose(by_cluster, expected, rtol=1e-9)


def test_conditional_distributions_multiply_to_the_joint_one(shared):
    """Of own coefficients given the shared and the other way round, by Bayes' theorem."""
    found, dense = make(shared, 12)
    places = tuple(dict(LAYOUTS[shared][0]))
    one, other = (
        dense.by_cluster(dense.normal.rvs(random_state=seed)).astype(float) for seed in (1, 2)
    )
    at = jnp.asarray(one)
    mixed = jnp.asarray(other).at[:, places].set(at[:, places]) if places else jnp.asarray(other)
    gap = found.log_prob(Coefficients(at)) - found.log_prob(Coefficients(mixed))
    own = found.own_given(at)
    assert not own.is_joint
    totals = [own.log_prob_by_cluster(Coefficients(v)).sum() for v in (at, mixed)]
    assert totals[0] - totals[1] == pytest.approx(float(gap), rel=1e-8)
    draws = own.sample(jax.random.key(0)).values
    if places:
        np.testing.assert_array_equal(draws[:, places], at[:, places])
        # And of the shared ones given these.
        moved = at.at[:, places].set(jnp.asarray(other)[:, places])
        gap = found.log_prob(Coefficients(at)) - found.log_prob(Coefficients(moved))
        common = found.shared_given(at, places)
        totals = [common.log_prob(Coefficients(v)) for v in (at, moved)]
        assert totals[0] - totals[1] == pytest.approx(float(gap), rel=1e-8)
        if len(places) > 1:
            moved = at.at[:, places[0]].set(jnp.asarray(other)[:, places[0]])
            gap = found.log_prob(Coefficients(at)) - found.log_prob(Coefficients(moved))
            first = found.shared_given(at, places[:1])
            totals = [first.log_prob(Coefficients(v)) for v in (at, moved)]
            assert totals[0] - totals[1] == pytest.approx(float(gap), rel=1e-8)


def test_groups_that_depend_on_one_another_are_refused():
    places = Places.of(K, 2, ((0, ()), (1, PAIR)))
    with pytest.raises(OptionError, match="diagonal"):
        NormalCoefficients.of_each(np.zeros((K, 2)), np.array([[1.0, 0.5], [0.5, 1.0]]), places)


@pytest.mark.parametrize(
    ("groups", "kinds"),
    [
        ([], None),
        ([(0, 0, 0, 0)], None),
        ([(0, 1, 2, 3)], None),
        ([(0, 0, 1, 2)], [0, 0, 1, 1]),
        ([(0, 0, 1, 1)], [0, 0, 1, 1]),
        ([(0, 0, 1, 2), (0, 1, 1, 2)], [0, 1, 2, 3]),
    ],
)
def test_components_are_alike_where_trading_places_keeps_every_group(groups, kinds):
    found = component_kinds(4, groups)
    assert (None if found is None else found.tolist()) == kinds


def test_divergences_are_those_of_dense_normals(shared):
    (found, dense), (prior, dense_prior) = make(shared, 5, 2), make(shared, 6, 1)
    assert found.kl(prior) == pytest.approx(dense.kl(dense_prior), rel=1e-9)
    assert found.kl(found) == pytest.approx(0, abs=1e-9)


def test_draws_have_the_distribution_of_the_dense_normal(shared):
    found, dense = make(shared, 7)
    keys = jax.random.split(jax.random.key(1), N_DRAWS)
    drawn = np.asarray(jax.vmap(found.sample)(keys).values)
    for place, groups in LAYOUTS[shared][0]:
        for k in range(K):
            first = groups.index(groups[k]) if groups else 0
            assert np.all(drawn[:, k, place] == drawn[:, first, place])
    vectors = np.array([dense.vector(one) for one in drawn])
    root = np.linalg.cholesky(dense.precision)
    standard = (vectors - dense.mean) @ root
    size, limit = dense.mean.size, 5 / np.sqrt(N_DRAWS)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=limit)
    np.testing.assert_allclose(np.cov(standard.T), np.eye(size), atol=limit * np.sqrt(2))


def test_coordinates_are_standard_and_go_back(shared):
    found, dense = make(shared, 8)
    coordinates = found.coordinates()
    rng = np.random.default_rng(9)
    assert coordinates.size == dense.mean.size
    z = rng.normal(size=coordinates.size)
    values, log_det = coordinates.constrain(jnp.asarray(z))
    np.testing.assert_allclose(coordinates.unconstrain(values), z, rtol=1e-8, atol=1e-9)
    # In these coordinates the distribution is standard normal.
    density = dense.normal.logpdf(dense.vector(values.values)) + log_det
    assert density == pytest.approx(stats.norm.logpdf(z).sum(), rel=1e-9)
    jacobian = jax.jacobian(lambda own: coordinates.constrain(own)[0].values)(jnp.asarray(z))
    whole = np.zeros((coordinates.size, coordinates.size))
    whole[dense.places[:, dense.free]] = jacobian[:, dense.free]
    assert log_det == pytest.approx(np.linalg.slogdet(whole)[1], rel=1e-9)


def test_blending_goes_from_one_to_the_other(shared):
    (one, _), (other, _) = make(shared, 10), make(shared, 11)
    for rate, end in ((0.0, one), (1.0, other)):
        blended = jax.tree.leaves(one.blended(other, jnp.asarray(rate)))
        for leaf, expected in zip(blended, jax.tree.leaves(end), strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=1e-9, atol=1e-12)


def test_a_point_has_no_spread():
    values, spread, _ = Coefficients(jnp.ones((K, D))).moments()
    assert values.shape == (K, D)
    assert spread.shape == (K, 0, D)
