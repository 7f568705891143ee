"""The order of rows and labels changes nothing, and a weight is a number of copies."""

import jax
import numpy as np
import pytest

from clusterwise.engines.step import score_program, start_program
from tests.laws.registry import (
    CASES,
    ENGINES,
    N_CLUSTERS,
    N_ROWS,
    SLOTS,
    make_source,
    random_values,
)

FULL_BATCH = [name for name, engine in ENGINES.items() if engine.full_batch]


def run(case, engine, values, labels, weight=None):
    """Result of a run from labels, and scores (n, k) of the rows at its end."""
    source, prior = make_source(values, weight), case.prior()
    rows = source.block(0)
    padded = np.pad(labels, (0, SLOTS - len(labels)))
    begin = start_program(case.block, prior, rows, padded)
    result = ENGINES[engine].run(case.block, prior, source, begin, jax.random.key(0))
    found = np.asarray(score_program(case.block, result.posterior.moments(), rows))
    return result, np.swapaxes(found, 1, 2).reshape(SLOTS, -1)[: len(values)]


def shares(score):
    resp = np.exp(score - score.max(axis=1, keepdims=True))
    return resp / resp.sum(axis=1, keepdims=True)


def separated(seed):
    rng = np.random.default_rng(seed)
    values = random_values(rng)
    labels = rng.integers(N_CLUSTERS, size=N_ROWS)
    return values, labels, rng


@pytest.mark.parametrize("engine", FULL_BATCH)
@pytest.mark.parametrize("name", CASES)
def test_order_of_rows(name, engine):
    values, labels, rng = separated(1)
    order = rng.permutation(N_ROWS)
    one, score = run(CASES[name], engine, values, labels)
    other, permuted = run(CASES[name], engine, values[order], labels[order])
    n = min(10, len(one.history), len(other.history))
    np.testing.assert_allclose(other.history[:n], one.history[:n], rtol=1e-10)
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-8)
    np.testing.assert_allclose(shares(permuted), shares(score)[order], atol=1e-4)


@pytest.mark.parametrize("engine", FULL_BATCH)
@pytest.mark.parametrize("name", CASES)
def test_integer_weight_is_a_number_of_copies(name, engine):
    values, labels, rng = separated(2)
    values, labels = values[:40], labels[:40]
    weight = rng.permutation(np.arange(40) % 3)
    one, score = run(CASES[name], engine, values, labels, weight.astype(float))
    copies = np.repeat(np.arange(40), weight)
    other, repeated = run(CASES[name], engine, values[copies], labels[copies])
    n = min(10, len(one.history), len(other.history))
    np.testing.assert_allclose(other.history[:n], one.history[:n], rtol=1e-10)
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-8)
    np.testing.assert_allclose(shares(repeated), shares(score)[copies], atol=1e-4)


@pytest.mark.parametrize("engine", FULL_BATCH)
@pytest.mark.parametrize("name", CASES)
def test_order_of_labels(name, engine):
    values, labels, _ = separated(3)
    one, score = run(CASES[name], engine, values, labels)
    for permutation in ([1, 2, 0], [2, 1, 0]):
        other, permuted = run(CASES[name], engine, values, np.array(permutation)[labels])
        assert other.objective == pytest.approx(one.objective, abs=1e-6 * N_ROWS)
        # Which rows belong together does not depend on names.
        together, again = (shares(s) @ shares(s).T for s in (score, permuted))
        np.testing.assert_allclose(again, together, atol=1e-2)
