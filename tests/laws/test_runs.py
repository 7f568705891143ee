"""Runs: objectives never decrease and stay below the evidence; order and copies change nothing."""

import jax
import numpy as np
import pytest

from clusterwise.engines.ascent import ModeProjection, run_block
from tests.laws.registry import CASES, ENGINES, N_CLUSTERS, N_ROWS, make_source, pack, random_values
from tests.laws.runs import random_start, run_from

pytestmark = pytest.mark.long

# Several programs each, made of what the other engines run on every case.
FEW = ["pitman-yor", "spherical", "tied"]
FLAT = [name for name, case in CASES.items() if case.has_flat]
MONOTONE = [
    (name, case)
    for name, engine in ENGINES.items()
    if engine.monotone
    for case in (CASES if engine.full_batch else FEW)
]
FULL_BATCH = [name for name, engine in ENGINES.items() if engine.full_batch]


@pytest.mark.parametrize(("engine", "name"), MONOTONE)
def test_objective_never_decreases(engine, name):
    case, rng = CASES[name], np.random.default_rng(1)
    for _ in range(2):
        values = random_values(rng)
        source = make_source(values)
        prior = case.prior()
        begin = random_start(case, prior, source.block(0), rng)
        result = ENGINES[engine].run(case.block, prior, source, begin, jax.random.key(0))
        assert len(result.history) > 3
        assert np.all(np.isfinite(result.history))
        assert np.diff(result.history).min() >= -1e-9 * N_ROWS
        assert result.objective == result.history[-1]


@pytest.mark.parametrize("name", FLAT)
def test_flat_objective_is_the_mixture_log_likelihood_and_never_decreases(name):
    case, rng = CASES[name], np.random.default_rng(2)
    values = random_values(rng)
    rows, prior = pack(values), case.flat()
    begin = random_start(case, prior, rows, rng)
    result, before = (
        run_block(ModeProjection(), case.block, prior, rows, N_ROWS, begin, tol=0.0, max_iter=n)
        for n in (25, 24)
    )
    assert np.diff(result.history).min() >= -1e-9 * N_ROWS
    score = case.log_density(before.posterior.mode(), values)
    expected = np.logaddexp.reduce(score, axis=1).sum()
    assert result.objective == pytest.approx(expected, rel=1e-10, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_em_reaches_a_stationary_point_of_likelihood_times_prior(name):
    case, rng = CASES[name], np.random.default_rng(3)
    values = random_values(rng)
    source, prior = make_source(values), case.prior()
    begin = random_start(case, prior, source.block(0), rng)
    result = ENGINES["em"].run(case.block, prior, source, begin, None)
    mode = result.posterior.mode()

    def objective(point):
        likelihood = np.logaddexp.reduce(case.log_density(point, values), axis=1).sum()
        return likelihood + float(kernel_program(prior, point))

    best = objective(mode)
    assert best >= result.objective - 1e-8
    assert best == pytest.approx(result.objective, abs=1e-4)
    leaves, structure = jax.tree.flatten(mode)
    shapes = [np.asarray(leaf) for leaf in leaves]
    coefficients = [i for i, leaf in enumerate(shapes) if leaf.ndim == 3 and i % 2 == 0]
    assert coefficients
    for i in coefficients:
        direction = rng.normal(size=shapes[i].shape)
        ends = []
        for sign in (-1, 1):
            moved = list(leaves)
            moved[i] = shapes[i] + sign * 1e-4 * direction
            ends.append(objective(jax.tree.unflatten(structure, moved)))
        assert abs(ends[1] - ends[0]) / 2e-4 < 0.02
        assert max(ends) < best + 1e-7


kernel_program = jax.jit(lambda prior, point: prior.log_kernel(point))


@pytest.mark.parametrize("name", CASES)
def test_bound_lies_below_the_exact_evidence(name):
    case, rng = CASES[name], np.random.default_rng(4)
    values = random_values(rng, 4)
    source, prior = make_source(values), case.prior()
    evidence = case.log_evidence(values, N_CLUSTERS)
    bounds = []
    for _ in range(4):
        begin = random_start(case, prior, source.block(0), rng)
        result = ENGINES["vi"].run(case.block, prior, source, begin, None)
        assert np.all(result.history <= evidence + 1e-8)
        bounds.append(result.objective)
    # Tight up to the clusters' order and the dependence of labels on parameters.
    assert max(bounds) > evidence - np.log(6) - 3.0


@pytest.mark.parametrize("name", ["diagonal"])
def test_bound_with_one_cluster_is_the_exact_evidence(name):
    case, rng = CASES[name], np.random.default_rng(5)
    values = random_values(rng, 6, 1)
    source, prior = make_source(values), case.prior(1)
    begin = random_start(case, prior, source.block(0), rng, 1)
    result = ENGINES["vi"].run(case.block, prior, source, begin, None)
    assert result.objective == pytest.approx(case.log_evidence(values, 1), rel=1e-9, abs=1e-7)


def run(case, engine, values, labels, weight=None):
    """Result of a run from labels, and scores (n, k) of the rows at its end."""
    result, score = run_from(case, engine, case.prior(), make_source(values, weight), labels)
    return result, score[: len(values)]


def shares(score):
    resp = np.exp(score - score.max(axis=1, keepdims=True))
    return resp / resp.sum(axis=1, keepdims=True)


def separated(seed):
    rng = np.random.default_rng(seed)
    values = random_values(rng)
    labels = rng.integers(N_CLUSTERS, size=N_ROWS)
    return values, labels, rng


def reordered(rng):
    """Weights of one, and the rows in another order."""
    return np.ones(N_ROWS), rng.permutation(N_ROWS)


def copied(rng):
    """Whole weights of some rows, and as many copies of each."""
    weight = rng.permutation(np.arange(40) % 3)
    return weight.astype(float), np.repeat(np.arange(40), weight)


@pytest.mark.parametrize("engine", FULL_BATCH)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("change", "seed"), [(reordered, 1), (copied, 2)])
def test_order_of_rows_and_weight_for_copies(name, engine, change, seed):
    values, labels, rng = separated(seed)
    weight, rows = change(rng)
    values, labels = values[: len(weight)], labels[: len(weight)]
    one, score = run(CASES[name], engine, values, labels, weight)
    other, again = run(CASES[name], engine, values[rows], labels[rows])
    n = min(10, len(one.history), len(other.history))
    np.testing.assert_allclose(other.history[:n], one.history[:n], rtol=1e-10)
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-8)
    np.testing.assert_allclose(shares(again), shares(score)[rows], atol=1e-4)


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
