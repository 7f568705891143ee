"""One loop over rows wherever they lie."""

import jax
import numpy as np
import pytest

from clusterwise.core.product_posterior import ProductPosterior
from clusterwise.engines.ascent import MeanProjection, ModeProjection, run_block
from clusterwise.weights.specification import DirichletProcess
from tests.laws.registry import (
    CASES,
    ENGINES,
    N_CLUSTERS,
    N_ROWS,
    SLOTS,
    make_source,
    random_values,
    with_counts,
)
from tests.laws.runs import random_start, run_from

pytestmark = pytest.mark.long


def problem(name, seed, block_rows=N_ROWS):
    case, rng = CASES[name], np.random.default_rng(seed)
    values, weight = random_values(rng), rng.gamma(4.0, 0.25, size=N_ROWS)
    whole = make_source(values, weight)
    split = make_source(values, weight, block_rows=block_rows)
    prior = case.prior()
    return case, prior, whole, split, random_start(case, prior, whole.block(0), rng)


@pytest.mark.parametrize("engine", ["em", "vi"])
def test_blocks_equal_one_block(engine):
    case, prior, whole, split, begin = problem("tied", 1, block_rows=17)
    assert (whole.n_blocks, split.n_blocks) == (1, 3)
    one = ENGINES[engine].run(case.block, prior, whole, begin, None)
    other = ENGINES[engine].run(case.block, prior, split, begin, None)
    assert one.converged
    assert other.converged
    # Where a gain is at the bound, rounding decides about one more iteration.
    assert abs(one.n_iter - other.n_iter) <= 1
    common = min(one.n_iter, other.n_iter)
    np.testing.assert_allclose(other.history[:common], one.history[:common], rtol=1e-10)
    pairs = zip(jax.tree.leaves(one.posterior), jax.tree.leaves(other.posterior), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-8)


def test_memoized_is_coordinate_ascent_with_one_more_view_of_the_rows():
    case, prior, whole, split, begin = problem("tied", 2, block_rows=17)
    exact = ENGINES["vi"].run(case.block, prior, whole, begin, None)
    for source in (whole, split):
        memoized = ENGINES["memoized"].run(case.block, prior, source, begin, None)
        assert np.diff(memoized.history).min() >= -1e-9 * N_ROWS
        # The objective is the bound at the posterior that is returned.
        again = run_block(
            MeanProjection(),
            case.block,
            prior,
            whole.block(0),
            whole.total_weight,
            memoized.posterior,
            tol=0.0,
            max_iter=1,
        )
        assert again.objective >= memoized.objective - 1e-8
        assert memoized.objective == pytest.approx(exact.objective, abs=1e-2)


@pytest.mark.parametrize("engine", ["em", "vi"])
@pytest.mark.parametrize("concentration", [0.2, 5.0])
def test_order_of_the_sticks_never_costs(engine, concentration):
    case, rng = CASES["known"], np.random.default_rng(3)
    source = make_source(random_values(rng))
    linear = case.prior().parts[1:]
    weights = DirichletProcess(concentration).prior(N_CLUSTERS, flat=False)
    prior = ProductPosterior((weights, *linear))

    def run(labels):
        result, score = run_from(case, engine, prior, source, labels)
        return result, score.argmax(axis=1)

    one, labels = run(rng.integers(N_CLUSTERS, size=SLOTS))
    size = np.bincount(labels[:N_ROWS], minlength=N_CLUSTERS)
    rank = np.argsort(np.argsort(size))
    # From clusters in order of size, either way, an optimum is reached by going up.
    for ordered in (rank[labels], (N_CLUSTERS - 1 - rank)[labels]):
        result, _ = run(ordered)
        assert result.converged
        assert np.diff(result.history).min() >= -1e-9 * N_ROWS
        assert result.objective >= one.objective - 1e-6 * N_ROWS


def test_stopping_leaves_little_to_gain():
    case, prior, whole, _, begin = problem("tied", 4)
    rows, weight = whole.block(0), whole.total_weight
    args = (MeanProjection(), case.block, prior, rows, weight, begin)
    end = run_block(*args, tol=0.0, max_iter=2000)
    for tol in (1e-3, 1e-6):
        result = run_block(*args, tol=tol, max_iter=2000)
        assert result.converged
        assert result.n_iter == len(result.history)
        assert end.objective - result.objective < 10 * tol * weight
    short = run_block(*args, tol=1e-9, max_iter=3)
    assert not short.converged
    assert short.n_iter == len(short.history) == 3


@pytest.fixture(scope="module")
def slow():
    """A run that converges slowly, since there are no clusters, and where steps alone lead."""
    case, rng = CASES["dirichlet"], np.random.default_rng(4)
    columns = [np.ones(N_ROWS), rng.normal(size=(N_ROWS, 4))]
    source = make_source(with_counts(np.column_stack(columns)))
    prior = case.prior()
    begin = random_start(case, prior, source.block(0), rng)
    args = (ModeProjection(), case.block, prior, source.block(0), source.total_weight)
    posterior, objectives = begin, []
    while len(objectives) < 2 or objectives[-1] - objectives[-2] > 1e-10:
        step = run_block(*args, posterior, tol=0.0, max_iter=1)
        posterior = step.posterior
        objectives.append(step.objective)
    return args, begin, np.array(objectives)


def test_leaps_shorten_the_way_to_the_optimum_of_steps(slow):
    args, begin, plain = slow
    result = run_block(*args, begin, tol=1e-12, max_iter=2000)
    assert result.converged
    assert result.objective == pytest.approx(plain[-1], abs=1e-8)
    assert np.diff(result.history).min() >= -1e-10
    np.testing.assert_allclose(result.history[:50], plain[:50], rtol=1e-12)
    reached = np.argmax(plain[-1] - result.history < 1e-6)
    assert reached < 0.3 * np.argmax(plain[-1] - plain < 1e-6)


def test_a_run_never_ends_in_a_leap_that_was_not_tried(slow):
    args, begin, _ = slow
    for max_iter in range(50, 62):
        result = run_block(*args, begin, tol=0.0, max_iter=max_iter)
        after = run_block(*args, result.posterior, tol=0.0, max_iter=1)
        assert after.objective >= result.objective - 1e-10
