"""A second mode is found where there is one, and only there."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm

from clusterwise.core.errors import DataError
from clusterwise.inference.modes import modes

WEIGHTS = np.array([0.3, 0.7])
SEEDS = range(20)


def normal_mixture(seed, n=500, means=(-1.0, 2.0)):
    rng = np.random.default_rng(seed)
    return np.array(means)[(rng.random(n) < WEIGHTS[1]).astype(int)] + rng.normal(size=n)


def gibbs(y, start, draws, seed, warmup=50):
    """Means of two normals of sd 1 and fixed weights under a N(0, 10^2) prior, log densities."""
    rng = np.random.default_rng(seed)
    means, found, density = np.array(start, float), [], []
    for sweep in range(draws + warmup):
        parts = WEIGHTS * np.exp(-0.5 * (y[:, None] - means) ** 2)
        total = parts.sum(axis=1)
        if sweep >= warmup:
            found.append(means)
            density.append(np.log(total).sum() - 0.5 * (means**2).sum() / 100)
        second = rng.random(len(y)) * total >= parts[:, 0]
        counts = np.array([(~second).sum(), second.sum()])
        sums = np.array([y[~second].sum(), y[second].sum()])
        means = rng.normal(sums / (counts + 0.01), 1 / np.sqrt(counts + 0.01))
    return np.array(found), np.array(density)


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_the_second_mode_of_two_normals_with_unequal_weights(seed):
    y = normal_mixture(seed)
    starts = [(-1, 2), (-1, 2), (-1, 2), (2.3, 0), (-1, 2)]
    runs = [gibbs(y, start, 250, [seed, i]) for i, start in enumerate(starts)]

    def found(chosen):
        means, density = (np.concatenate([runs[i][part] for i in chosen]) for part in (0, 1))
        features = np.stack([means, np.broadcast_to(WEIGHTS, means.shape)], axis=2)
        return modes(features, density, np.repeat(np.arange(4), 250)), density

    both, density = found([0, 1, 2, 3])
    assert len(both) == 2
    assert both[0].share == 0.75 and both[1].share == 0.25
    np.testing.assert_array_equal(both[1].chains, [0, 0, 0, 1])
    np.testing.assert_allclose(both[0].centre, [[-1, 0.3], [2, 0.7]], atol=0.5)
    np.testing.assert_allclose(both[1].centre, [[2.3, 0.3], [0, 0.7]], atol=0.6)
    assert both[1].log_density == pytest.approx(density[750:].mean())
    assert both[1].log_density < both[0].log_density - 20
    assert density[both[0].best] == density.max()
    assert len(found([0, 1, 2, 4])[0]) == 1


def one_lump(name, seed, chains, draws, correlation):
    """Chains of one mode in twelve dimensions, shaped, as slow as an autoregression."""
    rng = np.random.default_rng([seed, chains, draws])
    noise = np.sqrt(1 - correlation**2) * rng.normal(size=(chains, draws + 300, 13))
    walk = lfilter([1], [1, -correlation], noise, axis=1)[:, 300:]
    density = -0.5 * np.square(walk[:, :, :12]).sum(axis=2)
    shapes = {
        "wide": lambda x: 1e6 * x,
        "skewed": lambda x: np.exp(2 * x),
        "heavy": lambda x: x**3,
        "half": np.abs,
        "flat": norm.cdf,
        "banana": lambda x: x + 2 * x[:, :, [12]] ** 2,
    }
    features = shapes[name](walk)[:, :, :12]
    return features.reshape(-1, 4, 3), density.ravel(), np.repeat(np.arange(chains), draws)


@pytest.mark.long
@pytest.mark.parametrize("name", ["wide", "skewed", "heavy", "half", "flat", "banana"])
@pytest.mark.parametrize(
    "chains, draws, correlation", [(4, 1000, 0.0), (4, 250, 0.97), (2, 800, 0.9)]
)
def test_one_mode_is_one_mode(name, chains, draws, correlation):
    found = [len(modes(*one_lump(name, seed, chains, draws, correlation))) for seed in SEEDS]
    assert found == [1] * len(SEEDS)


def test_a_mode_that_chains_leave_and_return_to():
    rng = np.random.default_rng(0)
    features, density, chains = one_lump("wide", 0, 4, 500, 0.5)
    inside = np.repeat(rng.random(40) < 0.15, 50)
    features[inside, 2, 1] += 8e6
    found = modes(features, density, chains)
    assert len(found) == 2
    np.testing.assert_array_equal(found[1].members, inside)
    assert found[1].share == inside.mean()


def test_order_of_draws_and_scale_of_features_change_nothing():
    features, density, chains = one_lump("wide", 1, 4, 250, 0.0)
    features[600:] += 1e7
    order = np.argsort(np.tile(np.arange(250), 4), kind="stable")  # the chains interleaved
    plain = modes(features, density, chains)
    other = modes(1e-9 * features[order] + 5, density[order], chains[order])
    assert len(plain) == len(other) == 2
    for one, two in zip(plain, other, strict=True):
        np.testing.assert_array_equal(one.members[order], two.members)
        np.testing.assert_array_equal(one.chains, two.chains)


def test_numbers_left_exchanged_are_no_mode_but_another_density_is():
    rng = np.random.default_rng(2)
    features = rng.normal([[0, 0], [10, 0], [20, 5]], 1, (1000, 3, 2))
    features[400:600] = features[400:600, [1, 0, 2]]
    density, chains = rng.normal(size=1000), np.repeat(np.arange(5), 200)
    assert len(modes(features, density, chains)) == 1
    lower = density - 30 * (chains == 2)
    assert len(modes(features, lower, chains)) == 2


def test_rounding_is_not_modes():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        first = rng.beta(20, 30, 1000)
        known = 2.5 * (
            1 + 1e-12 * (rng.normal(size=(1000, 2)) + 20 * (rng.random((1000, 1)) < 0.5))
        )
        # Weights add up to one, so that along one direction there is rounding alone.
        features = np.stack([np.column_stack([first, 1 - first]), known], axis=2)
        assert len(modes(features, rng.normal(size=1000), np.repeat([0, 1], 500))) == 1


def test_counts_are_not_modes():
    rng = np.random.default_rng(3)
    occupied = rng.integers(3, 6, 1000)[:, None].astype(float)
    assert len(modes(occupied, rng.normal(size=1000), np.repeat([0, 1], 500))) == 1


def test_what_has_no_modes_is_refused():
    with pytest.raises(DataError, match="same number"):
        modes(np.zeros((10, 2)), np.zeros(9), np.zeros(10, int))
    with pytest.raises(DataError, match="finite"):
        modes(np.full((10, 2), np.nan), np.zeros(10), np.zeros(10, int))
