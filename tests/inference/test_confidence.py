"""How sure a relabelling is, at its limits; in between see test_relabel."""

import numpy as np

from clusterwise.inference.confidence import confidence


def test_clusters_far_apart_by_much_the_same_odds_are_sure():
    # A match of thousands of nats that hardly varies lies beyond any grid of its widths.
    rng = np.random.default_rng(4)
    gain = 1e5 + rng.normal(size=500)
    match = np.zeros((500, 2, 2))
    match[:, 0, 1] = match[:, 1, 0] = -gain / 2
    found = confidence(match)
    assert found.overall == 1
    np.testing.assert_array_equal(found.clusters, 1)
