"""Gibbs sampling against the exact posterior of a few rows, by summing over all labelings."""

from functools import cache

import jax
import numpy as np
import pytest
from scipy import special, stats

import clusterwise as cw
from clusterwise.core.random import random_key
from clusterwise.core.runtime import double_precision
from clusterwise.engines.chains import Chains
from clusterwise.engines.gibbs import run_gibbs
from tests.laws.registry import (
    CASES,
    ENGINES,
    N_CLUSTERS,
    SLOTS,
    make_source,
    pack,
    random_values,
    with_counts,
)

pytestmark = pytest.mark.long

# One program each but for the second, which shares the first's.
SAMPLED = ["dirichlet process", "pitman-yor", "diagonal"]
N = 4
_ERRORS = 4.5


@cache
def few_rows():
    """Rows to sample with, and new ones to predict."""
    values = random_values(np.random.default_rng(8), N + 2)
    return values[:N], values[N:]


def flat_draws(draws):
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws.parameters)


def densities(case, parameters, values):
    """(draws, n, k) density of rows with their label under each draw."""
    rows = pack(values).chunk(0)
    score = jax.jit(jax.vmap(lambda point: case.block.score(point.moments(), rows)))(parameters)
    return np.exp(np.swapaxes(np.asarray(score), 1, 2)[:, : len(values)])


def assert_close(sample, expected, n_chains):
    """Averages within Monte Carlo error, which batches of draws tell."""
    batches = np.asarray(sample).reshape(n_chains * 25, -1, *np.shape(sample)[1:]).mean(axis=1)
    error = batches.std(axis=0, ddof=1) / np.sqrt(len(batches))
    deviation = np.abs(batches.mean(axis=0) - expected)
    assert np.all(deviation <= _ERRORS * error + 1e-12), (deviation / error).max()


@cache
@double_precision
def sampled(name):
    case, (values, new) = CASES[name], few_rows()
    prior = case.prior()
    draws = ENGINES["gibbs"].run(case.block, prior, make_source(values), prior, random_key(1))
    parameters = flat_draws(draws)
    return parameters, densities(case, parameters, np.concatenate([values, new]))


@pytest.mark.parametrize("name", SAMPLED)
def test_predictive_density_is_a_ratio_of_evidences(name):
    case, (values, new) = CASES[name], few_rows()
    _, density = sampled(name)
    before = case.log_evidence(values, N_CLUSTERS)
    after = [case.log_evidence(np.vstack([values, row]), N_CLUSTERS) for row in new]
    assert_close(density[:, N:].sum(axis=2), np.exp(np.array(after) - before), 4)


@pytest.mark.parametrize("name", SAMPLED)
def test_probabilities_of_sharing_a_cluster_are_exact(name):
    case, (values, _) = CASES[name], few_rows()
    _, density = sampled(name)
    resp = density[:, :N] / density[:, :N].sum(axis=2, keepdims=True)
    labelings, log_joint = case.log_labelings(values, N_CLUSTERS)
    probability = special.softmax(log_joint)
    for i in range(N):
        for j in range(i):
            exact = probability @ (labelings[:, i] == labelings[:, j])
            assert_close((resp[:, i] * resp[:, j]).sum(axis=1), exact, 4)


@pytest.mark.parametrize("name", ["dirichlet process", "pitman-yor"])
def test_concentration_has_its_exact_mean(name):
    case, (values, _) = CASES[name], few_rows()
    parameters, _ = sampled(name)
    prior = case.prior().parts[0]
    labelings, log_joint = case.log_labelings(values, N_CLUSTERS)
    means = {}
    for labels in labelings:
        count = tuple(np.bincount(labels, minlength=N_CLUSTERS).astype(float))
        if count not in means:
            after = prior.updated(np.array(count), prior.moments())
            means[count] = float(after.moments().concentration)
    per_labeling = [
        means[tuple(np.bincount(labels, minlength=N_CLUSTERS).astype(float))]
        for labels in labelings
    ]
    exact = special.softmax(log_joint) @ np.array(per_labeling)
    assert_close(parameters.parts[0].concentration, exact, 4)


@cache
def copied_rows():
    """Two rows near the prior's mean, so that copies of one may well lie in several clusters."""
    return with_counts(np.array([[1, -0.1, 0.05, 0.0, -0.1], [1, 0.3, 0.2, 0.4, 0.3]]))


def probability_of_sharing(case, prior, values):
    """Exact probability that two new rows share a cluster."""
    labelings, log_joint = case.log_labelings(values, N_CLUSTERS)
    count = np.stack([np.bincount(labels, minlength=N_CLUSTERS) for labels in labelings])
    alpha = np.asarray(prior.parts[0].alpha) + count
    total = alpha.sum(axis=1)
    return special.softmax(log_joint) @ ((alpha * (alpha + 1)).sum(axis=1) / (total * (total + 1)))


def test_weights_that_gibbs_cannot_take_are_refused():
    # One label for a row of weight two is not two rows with a label each.
    rows = {"x": [1.0, 2, 3, 4, 5, 6, 7, 8], "y": [1.0, 3, 2, 5, 4, 7, 6, 8], "w": [2.0] * 8}
    model = cw.Model("y ~ x", n_components=1, sample_weight="w")
    with pytest.raises(cw.OptionError, match="sample_weight may be 0 or 1"):
        model.fit(rows, engine="gibbs", random_state=0)


def test_rows_in_several_blocks_have_the_same_posterior():
    case, values = CASES["diagonal"], copied_rows()[[0, 0, 0, 0, 1]]
    prior, source = case.prior(), make_source(values, block_rows=2)
    assert source.n_blocks == 3
    chains = Chains(50, 500, 2, random_key(3), lambda *_: None)
    draws = run_gibbs(case.block, prior, source, prior, prior.moments(), chains)
    weights = np.exp(flat_draws(draws).parts[0].log_weights)
    exact = probability_of_sharing(case, prior, values)
    assert_close(np.square(weights).sum(axis=1), exact, 2)


def test_labels_are_drawn_with_the_right_frequencies():
    case, rng = CASES["diagonal"], np.random.default_rng(4)
    values = np.repeat(random_values(rng, 1), SLOTS, axis=0)
    parameters = case.draw(rng)
    parameters = jax.tree.map(lambda leaf: 0.3 * leaf if leaf.ndim == 3 else leaf, parameters)
    probability = special.softmax(case.log_density(parameters, values[:1])[0])
    rows, moments = pack(values), parameters.moments()
    n = 2000
    keys = jax.random.split(jax.random.key(5), n)

    @jax.jit
    def draw(rows, keys):
        return jax.lax.map(
            lambda key: case.block.drawn_totals(moments, rows, key).statistics[0], keys
        )

    count = np.asarray(draw(rows, keys))[:, :, 0]
    np.testing.assert_array_equal(count.sum(axis=1), SLOTS)
    assert probability.max() < 0.99
    assert stats.chisquare(count.sum(axis=0), n * SLOTS * probability).pvalue > 1e-5
    # Rows, chunks too, are drawn independently: the counts have a multinomial's variance.
    variance = count.var(axis=0) / (SLOTS * probability * (1 - probability))
    np.testing.assert_allclose(variance, 1.0, atol=0.2)
