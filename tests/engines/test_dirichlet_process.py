"""A Dirichlet process finds how many clusters there are."""

import numpy as np
import pytest

import clusterwise as cw


@pytest.mark.long
def test_truncation_at_twenty_leaves_four_clusters():
    rng = np.random.default_rng(1)
    centers = np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 6.0], [0.0, -6.0]])
    x = np.concatenate([center + rng.normal(size=(1000, 2)) for center in centers])
    data = {"x1": x[:, 0], "x2": x[:, 1]}
    model = cw.Model(covariates="x1 + x2", n_components=20, weights="dirichlet_process")
    fit = model.fit(data, engine=cw.VI(n_init=2), random_state=0)
    weights = np.asarray(fit.weights)
    assert np.sum(weights > 0.02) == 4
    np.testing.assert_allclose(np.sort(weights)[-4:], 0.25, atol=0.01)
    labels = np.asarray(fit.assign(data)).reshape(4, 1000)
    for own in labels:
        assert np.mean(own == np.bincount(own).argmax()) > 0.98
