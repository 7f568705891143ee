"""Draws are matched to clusters by what their components hold, whatever their numbers."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr
from scipy.stats import norm
from sklearn.metrics import accuracy_score

from clusterwise.core.errors import DataError, OptionError
from clusterwise.inference.confidence import confidence
from clusterwise.inference.relabel import METHODS, apply_permutation, relabel, relabel_labels


def drawn(seed, draws=30, rows=40, k=3, noise=0.4):
    """Noisy memberships (draws, rows, k) around one truth (rows, k), numbered alike."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.full(k, 0.3), rows)
    return (1 - noise) * truth + noise * rng.dirichlet(np.ones(k), (draws, rows)), truth


def shuffled(memberships, seed):
    rng = np.random.default_rng(seed)
    k = memberships.shape[2]
    orders = np.stack([rng.permutation(k) for _ in range(len(memberships))])
    return apply_permutation(memberships, orders, axis=2), orders


def orders_of(k):
    return [list(order) for order in itertools.permutations(range(k))]


@pytest.mark.parametrize("k", [2, 3, 4])
def test_pivot_makes_most_rows_agree(k):
    rng = np.random.default_rng(k)
    labels, reference = rng.integers(0, k, (50, 12)), np.arange(12) % k
    found = relabel_labels(labels, relabel(labels, reference, method="pivot").permutation)
    for draw, relabelled in zip(labels, found, strict=True):
        best = max(accuracy_score(reference, np.array(order)[draw]) for order in orders_of(k))
        assert accuracy_score(reference, relabelled) == best


def test_ecr_ends_where_no_draw_agrees_better_with_the_most_frequent_labels():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 25)
    labels = np.where(rng.random((40, 25)) < 0.35, rng.integers(0, 3, (40, 25)), truth)
    labels = np.stack([rng.permutation(3)[draw] for draw in labels])
    result = relabel(labels, method="ecr")
    assert result.converged
    found = relabel_labels(labels, result.permutation)
    frequent = np.stack([(found == label).mean(axis=0) for label in range(3)], axis=1)
    np.testing.assert_allclose(result.average, frequent)
    modal = frequent.argmax(axis=1)
    for draw in found:
        others = [accuracy_score(modal, np.array(order)[draw]) for order in orders_of(3)]
        assert accuracy_score(modal, draw) == max(others)


def test_stephens_ends_where_no_draw_is_closer_to_the_average_under_other_labels():
    memberships, _ = drawn(2, noise=0.8)
    mixed, _ = shuffled(memberships, 3)
    result = relabel(mixed, method="stephens")
    assert result.converged
    found = apply_permutation(mixed, result.permutation, axis=2)
    average = found.mean(axis=0)
    np.testing.assert_allclose(result.average, average)
    for draw in found:
        divergences = [rel_entr(draw[:, order], average).sum() for order in orders_of(3)]
        # The floor under probabilities moves each by less than a thousandth.
        assert rel_entr(draw, average).sum() <= min(divergences) + 1e-3


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5))
def test_renumbering_draws_beforehand_changes_nothing(method, seed, k):
    memberships, truth = drawn(seed, draws=12, rows=15, k=k, noise=0.7)
    mixed, _ = shuffled(memberships, seed + 1)
    found = [
        apply_permutation(draws, relabel(draws, truth, method=method).permutation, axis=2)
        for draws in (memberships, mixed)
    ]
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("method", ["ecr", "stephens"])
def test_without_a_reference_the_result_is_the_same_but_for_one_renumbering(method):
    memberships, truth = drawn(4)
    mixed, _ = shuffled(memberships, 5)
    found = apply_permutation(mixed, relabel(mixed, method=method).permutation, axis=2)
    aligned = relabel(mixed, truth, method=method)
    with_reference = apply_permutation(mixed, aligned.permutation, axis=2)
    assert any(np.array_equal(found[:, :, order], with_reference) for order in orders_of(3))


@pytest.mark.parametrize("method", METHODS)
def test_clusters_have_the_numbers_of_the_reference(method):
    memberships, truth = drawn(6)
    mixed, orders = shuffled(memberships, 7)
    for order in orders_of(3):
        found = relabel(mixed, truth[:, order], method=method)
        undone = np.take_along_axis(orders, found.permutation, axis=1)
        np.testing.assert_array_equal(undone, np.tile(order, (30, 1)))
        own = apply_permutation(mixed, found.permutation, axis=2)
        again = relabel(own, truth[:, order], method=method)
        np.testing.assert_allclose(found.match, again.match, rtol=1e-9)


@pytest.mark.parametrize("method", ["ecr", "stephens"])
@pytest.mark.parametrize("seed", [54, 80, 231])
def test_a_poor_reference_still_gives_the_numbers(method, seed):
    memberships, _ = drawn(seed, noise=0.3)
    mixed, _ = shuffled(memberships, seed + 1)
    poor = np.random.default_rng(seed + 2).dirichlet(np.ones(3), 40)
    found = relabel(mixed, poor, method=method)
    agreement = [(found.average[:, order] * np.log(poor)).sum() for order in orders_of(3)]
    assert np.argmax(agreement) == 0  # as they are
    own = apply_permutation(mixed, found.permutation, axis=2)
    np.testing.assert_allclose(own.mean(axis=0), found.average)
    expected = np.einsum("drk,rl->dkl", own, np.log(found.average + 1e-6))
    np.testing.assert_allclose(found.match, expected, atol=1e-3)


def test_without_a_reference_the_first_draw_keeps_its_numbers():
    memberships, _ = drawn(12)
    mixed, _ = shuffled(memberships, 13)
    for method in ("ecr", "stephens"):
        np.testing.assert_array_equal(relabel(mixed, method=method).permutation[0], [0, 1, 2])


@pytest.mark.parametrize("method", METHODS)
def test_blocks_of_rows_give_what_the_whole_gives(method):
    memberships, truth = drawn(8)
    mixed, _ = shuffled(memberships, 9)
    whole = relabel(mixed, truth, method=method)
    parts = relabel(lambda: (mixed[:, i : i + 7] for i in range(0, 40, 7)), truth, method=method)
    np.testing.assert_array_equal(whole.permutation, parts.permutation)
    np.testing.assert_allclose(whole.match, parts.match, rtol=1e-9)


def test_what_cannot_be_matched_is_refused():
    memberships, truth = drawn(10)
    with pytest.raises(OptionError, match="one of pivot, ecr, stephens"):
        relabel(memberships, truth, method="sort")
    with pytest.raises(OptionError, match="reference"):
        relabel(memberships, method="pivot")
    with pytest.raises(DataError, match="39 rows"):
        relabel(memberships, truth[:-1])
    with pytest.raises(DataError, match="40"):
        relabel(memberships, np.concatenate([truth, truth]))
    with pytest.raises(DataError, match="finite"):
        relabel(np.where(memberships > 0.5, np.nan, memberships), truth)
    with pytest.raises(DataError, match="integers"):
        relabel(memberships[:, :, 0], truth)


def two_clusters(log_odds):
    """Match of draws of two clusters by their log odds of the right numbers."""
    match = np.zeros((len(log_odds), 2, 2))
    match[:, 0, 0] = log_odds
    return match


@pytest.mark.parametrize("apart", [0, 1, 2, 3, 5])
def test_confidence_is_below_the_share_of_right_labels_and_reaches_it(apart):
    # Log odds of the true numbers; relabelling takes those above zero, so errs below it.
    found = []
    for seed in range(10):
        log_odds = 40 * np.random.default_rng(seed).normal(apart, 1, 2000)
        found.append(confidence(two_clusters(np.abs(log_odds))).overall)
    right = norm.cdf(apart)
    # At 0 and 1 the density of the log odds' size has no dip, or a slight one, at zero.
    assert np.mean(found) < right + 0.05
    assert np.mean(found) > (right - 0.05 if apart >= 2 else 0.5 - 1e-9)


def test_more_rows_alone_do_not_make_labels_sure():
    log_odds = np.abs(np.random.default_rng(0).normal(size=3000))
    few, many = (confidence(two_clusters(scale * log_odds)).overall for scale in (10, 1000))
    assert few == pytest.approx(many, abs=0.05)
    assert many < 0.7


@pytest.mark.parametrize("k", [2, 3, 4])
def test_clusters_that_nothing_tells_apart(k):
    found = confidence(np.zeros((10, k, k)))
    np.testing.assert_allclose(found.clusters, 1 / k)
    assert found.overall == pytest.approx(1 / math.factorial(k))


def test_the_unsure_clusters_are_the_ones_that_overlap():
    rng = np.random.default_rng(3)
    memberships = np.zeros((1000, 60, 3))
    memberships[:, :30, 0] = 1
    share = rng.normal(0.5, 0.1, (1000, 1)) + rng.normal(0, 0.02, (1000, 30))
    memberships[:, 30:, 1], memberships[:, 30:, 2] = share, 1 - share
    mixed, _ = shuffled(np.clip(memberships, 0, 1), 4)
    found = confidence(relabel(mixed, method="stephens").match)
    assert found.clusters[np.argmax(found.clusters)] > 0.999
    assert np.sort(found.clusters)[:2].max() < 0.75
    assert found.overall < 0.75
