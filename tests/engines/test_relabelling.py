"""Draws take the labels of the pivot's components."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clusterwise.engines.relabelling import match_components, permute

scores = st.integers(1, 4).flatmap(
    lambda k: arrays(float, (2, 3, k, k), elements=st.floats(-1e6, 0, width=32))
)


@given(scores)
def test_match_is_the_best_permutation(match):
    found = match_components(match)
    k = match.shape[-1]
    for chain, draw in np.ndindex(2, 3):
        own = match[chain, draw]
        best = max(
            sum(own[order[j], j] for j in range(k)) for order in itertools.permutations(range(k))
        )
        chosen = found[chain, draw]
        assert sorted(chosen) == list(range(k))
        total = sum(own[chosen[j], j] for j in range(k))
        assert np.isclose(total, best, rtol=1e-12, atol=1e-9)


@given(scores, st.integers(0, 5))
def test_only_components_of_one_group_change_places(match, seed):
    k = match.shape[-1]
    groups = np.random.default_rng(seed).integers(3, size=k)
    found = match_components(match, groups)
    allowed = [o for o in itertools.permutations(range(k)) if (groups[list(o)] == groups).all()]
    for chain, draw in np.ndindex(2, 3):
        own = match[chain, draw]
        best = max(sum(own[order[j], j] for j in range(k)) for order in allowed)
        chosen = found[chain, draw]
        assert tuple(chosen) in allowed
        assert np.isclose(sum(own[chosen[j], j] for j in range(k)), best, rtol=1e-12, atol=1e-9)


def test_permutation_reorders_components_and_leaves_what_they_share():
    rng = np.random.default_rng(1)
    permutation = np.stack([[rng.permutation(3) for _ in range(4)] for _ in range(2)])
    own, shared, one = rng.normal(size=(2, 4, 3, 5)), rng.normal(size=(2, 4, 1, 5)), np.ones((2, 4))
    moved = permute({"own": own, "shared": shared, "one": one}, permutation)
    for chain, draw in np.ndindex(2, 4):
        expected = own[chain, draw][permutation[chain, draw]]
        np.testing.assert_array_equal(moved["own"][chain, draw], expected)
    np.testing.assert_array_equal(moved["shared"], shared)
    np.testing.assert_array_equal(moved["one"], one)
