"""Partitions against enumeration, scikit-learn's indices and plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, mutual_info_score, rand_score

from clusterwise.core.errors import DataError, OptionError
from clusterwise.inference.partition import credible_ball, partition_distances, point_partition
from clusterwise.inference.similarity import (
    label_counts,
    occupied_clusters,
    similarity,
    similarity_blocks,
)

pytestmark = pytest.mark.long


def variation_of_information(one, other):
    own = mutual_info_score(one, one) + mutual_info_score(other, other)
    return (own - 2 * mutual_info_score(one, other)) / np.log(2)


def rand_distance(one, other):
    return 1 - rand_score(one, other)


ORACLES = {"vi": variation_of_information, "binder": rand_distance}


def partitions(n):
    """All partitions of n rows as labels in order of first appearance."""
    found = [[0]]
    for _ in range(n - 1):
        found = [[*one, label] for one in found for label in range(max(one) + 2)]
    return np.array(found)


def noisy(seed, n, draws, k=3, noise=0.25):
    """Draws around one partition, numbered at random."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    labels = np.where(rng.random((draws, n)) < noise, rng.integers(0, k, (draws, n)), truth)
    return np.stack([rng.permutation(k) for _ in range(draws)])[np.arange(draws)[:, None], labels]


@pytest.mark.parametrize("loss", ["vi", "binder"])
@given(seed=st.integers(0, 10_000), n=st.integers(2, 9))
def test_distances_are_those_of_scikit_learn(loss, seed, n):
    labels = noisy(seed, n, 5)
    partition = np.random.default_rng(seed).integers(0, 4, n) * 3
    expected = [ORACLES[loss](draw, partition) for draw in labels]
    found = partition_distances(labels, partition, loss=loss)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_largest_variation_of_information_is_log_n():
    # Meila (2007): between one cluster and single rows.
    assert partition_distances(np.arange(8)[None], np.zeros(8, int))[0] == pytest.approx(3)


@pytest.mark.parametrize("loss", ["vi", "binder"])
@pytest.mark.parametrize("n", [2, 5, 7])
@pytest.mark.parametrize("noise", [0.25, 1.0])
def test_no_partition_has_a_smaller_expected_loss(loss, n, noise):
    every = partitions(n)
    for seed in range(8):
        labels = noisy(seed, n, 2 + seed, noise=noise)
        least = min(partition_distances(labels, one, loss=loss).mean() for one in every)
        found = point_partition(labels, loss=loss, max_clusters=n)
        assert found.expected_loss == pytest.approx(least, abs=1e-9)
        again = np.mean([ORACLES[loss](draw, found.labels) for draw in labels])
        assert found.expected_loss == pytest.approx(again, abs=1e-9)


@pytest.mark.parametrize("loss", ["vi", "binder"])
def test_no_row_is_better_in_another_cluster_or_alone(loss):
    for seed in range(10):
        labels = noisy(seed, 30, 25, k=3 + seed % 4, noise=0.5)
        found = point_partition(labels, loss=loss, n_starts=1, max_clusters=30)
        for row, cluster in np.ndindex(30, found.labels.max() + 2):
            other = found.labels.copy()
            other[row] = cluster
            expected = partition_distances(labels, other, loss=loss).mean()
            assert found.expected_loss <= expected + 1e-9


def test_point_partition_of_many_rows_finds_the_clusters():
    rng = np.random.default_rng(0)
    truth = rng.choice(4, 20_000, p=[0.4, 0.3, 0.2, 0.1])
    wrong = rng.random((60, 20_000)) < 0.05
    labels = np.where(wrong, rng.integers(0, 4, wrong.shape), truth)
    # Each draw splits off some rows, as spare components of a Dirichlet process do.
    labels = np.where(rng.random(wrong.shape) < 0.01, rng.integers(4, 12, wrong.shape), labels)
    found = point_partition(labels.astype(np.int8))
    assert adjusted_rand_score(truth, found.labels) > 0.999
    np.testing.assert_array_equal(found.labels, truth)  # numbered by size
    assert found.expected_loss <= partition_distances(labels, truth).mean() + 1e-12


def test_numbers_of_labels_change_nothing_and_limits_hold():
    labels = noisy(1, 40, 20, k=5)
    plain = point_partition(labels)
    other = point_partition(np.array([4, 2, 0, 1, 3])[labels])
    np.testing.assert_array_equal(plain.labels, other.labels)
    assert point_partition(labels, max_clusters=2).labels.max() <= 1
    assert (np.diff(np.bincount(plain.labels)) <= 0).all()


def test_a_candidate_is_a_start_and_never_makes_it_worse():
    labels = noisy(2, 60, 10, k=6, noise=0.7)
    plain = point_partition(labels, n_starts=1)
    helped = point_partition(labels, n_starts=1, candidates=plain.labels)
    assert helped.expected_loss <= plain.expected_loss + 1e-12


@pytest.mark.parametrize("loss", ["vi", "binder"])
def test_credible_ball(loss):
    labels = noisy(3, 30, 40, k=4)
    centre = point_partition(labels, loss=loss).labels
    ball = credible_ball(labels, centre, level=0.9, loss=loss)
    distances = np.array([ORACLES[loss](draw, centre) for draw in labels])
    np.testing.assert_allclose(ball.distances, distances, atol=1e-12)
    assert ball.radius == pytest.approx(np.sort(distances)[35])  # 36 of 40 draws
    assert ball.share >= 0.9
    inside = [draw for draw, d in zip(labels, distances, strict=True) if d <= ball.radius + 1e-9]
    numbers = [len(np.unique(draw)) for draw in inside]
    assert ORACLES[loss](ball.horizontal, centre) == pytest.approx(ball.radius)
    for edge, number in ((ball.upper, min(numbers)), (ball.lower, max(numbers))):
        assert len(np.unique(edge)) == number
        same = [ORACLES[loss](d, centre) for d in inside if len(np.unique(d)) == number]
        assert ORACLES[loss](edge, centre) == pytest.approx(max(same))


def test_similarity_is_the_share_of_draws_that_put_two_rows_together():
    labels = noisy(4, 23, 17)
    expected = np.mean([[np.equal.outer(draw, draw)] for draw in labels], axis=0)[0]
    np.testing.assert_allclose(similarity(labels), expected)
    blocks = list(similarity_blocks(labels.astype(np.int8), rows=10))
    assert [block.start for block in blocks] == [0, 10, 20]
    np.testing.assert_allclose(np.concatenate([b.values for b in blocks]), expected)


def test_similarity_of_probabilities_is_the_expectation_over_labels():
    rng = np.random.default_rng(5)
    resp = rng.dirichlet(np.ones(3), (6, 9))
    expected = np.zeros((9, 9))
    for draw in resp:
        for i, j in np.ndindex(9, 9):
            expected[i, j] += 1 / 6 if i == j else draw[i] @ draw[j] / 6
    np.testing.assert_allclose(similarity(resp), expected)
    drawn = (rng.random((4000, 6, 9, 1)) > np.cumsum(resp, axis=2)).sum(axis=3).reshape(-1, 9)
    # Monte Carlo error of a share from 24,000 draws.
    np.testing.assert_allclose(similarity(drawn), expected, atol=5 * 0.5 / np.sqrt(24_000))


def test_number_of_occupied_clusters():
    labels = np.array([[0, 0, 5], [1, 2, 3], [2, 2, 2], [0, 1, 1]])
    found = occupied_clusters(label_counts(labels))
    assert found.to_dict() == {1: 0.25, 2: 0.5, 3: 0.25}
    np.testing.assert_array_equal(label_counts(labels, k=7)[0], [2, 0, 0, 0, 0, 1, 0])


def test_what_is_no_partition_is_refused():
    labels = noisy(6, 10, 5)
    with pytest.raises(OptionError, match="one of vi, binder"):
        point_partition(labels, loss="rand")
    with pytest.raises(OptionError, match="max_clusters"):
        point_partition(labels, max_clusters=0)
    with pytest.raises(OptionError, match="level"):
        credible_ball(labels, labels[0], level=0)
    with pytest.raises(OptionError, match="similarity_blocks"):
        similarity(np.zeros((2, 20_000), dtype=int))
    with pytest.raises(DataError, match="integers"):
        similarity(labels.astype(float))
    with pytest.raises(DataError, match="negative"):
        point_partition(labels - 1)
    with pytest.raises(DataError, match="rows"):
        partition_distances(labels, labels[0, :-1])
