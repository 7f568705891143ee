"""The compiled pass over rows against the plain one, and against exact shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from clusterwise.core.native import sample_rows
from clusterwise.core.rows import CHUNK_ROWS, RowBlock, pack_rows
from clusterwise.core.runtime import double_precision

SHAPES = [(1, 1, 2, 40), (4, 3, 6, 1000), (3, 9, 8, 700), (20, 4, 5, 2 * CHUNK_ROWS + 300)]
N_DRAWS = 400
_ERRORS = 5.0


def make_case(k, m, columns, n):
    rng = np.random.default_rng(k)
    values = rng.normal(size=(n, columns))
    values[:, 0] = 1.0
    weight = (rng.random(n) < 0.8).astype(float)
    factor = rng.normal(size=(k, m, columns)) * (rng.random((k, m, columns)) < 0.7)
    constant = rng.normal(size=k)
    score = constant[:, None] - 0.5 * np.square(factor @ values.T).sum(axis=1)
    return values, weight, constant, factor, score


@pytest.mark.parametrize("shape", SHAPES)
@double_precision
def test_draws_have_their_probabilities_and_statistics_are_theirs(shape):
    values, weight, constant, factor, score = make_case(*shape)
    rows = RowBlock.from_packed(pack_rows(values, weight))
    bits = jax.random.bits(jax.random.key(0), (N_DRAWS, 2), jnp.uint32)
    program = jax.jit(jax.vmap(lambda b: sample_rows(constant, factor, rows, b)))
    log_density, gram = map(np.asarray, program(bits))
    np.testing.assert_allclose(log_density, (weight * logsumexp(score, axis=0)).sum(), rtol=1e-12)
    # Over the clusters the Gram matrices add up to that of all rows, whatever is drawn.
    pairs = np.triu_indices(shape[2])
    whole = ((values * weight[:, None]).T @ values)[pairs]
    np.testing.assert_allclose(gram.sum(axis=1), np.tile(whole, (N_DRAWS, 1)), atol=1e-9)
    resp = np.exp(score - logsumexp(score, axis=0)) * weight
    products = values[:, pairs[0]] * values[:, pairs[1]]
    error = np.sqrt((resp * (1 - resp)) @ np.square(products) / N_DRAWS)
    deviation = np.abs(gram.mean(axis=0) - resp @ products)
    assert np.all(deviation <= _ERRORS * error + 1e-9), (deviation / (error + 1e-12)).max()


@double_precision
def test_each_model_of_a_batch_has_its_own_rows_and_draws():
    values, weight, constant, factor, _ = make_case(4, 3, 6, 200)
    rows = [RowBlock.from_packed(pack_rows(v, weight)) for v in (values, values[::-1])]
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *rows)
    bits = jax.random.bits(jax.random.key(1), (2, 2), jnp.uint32)
    together = jax.jit(jax.vmap(lambda r, b: sample_rows(constant, factor, r, b)))(stacked, bits)
    for i in range(2):
        alone = jax.jit(sample_rows)(constant, factor, rows[i], bits[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), together, alone)


@double_precision
def test_scores_of_nothing_and_of_infinity_stay_in_bounds():
    values, weight, constant, factor, _ = make_case(4, 3, 6, 100)
    rows = RowBlock.from_packed(pack_rows(values, weight))
    bits = jnp.zeros(2, jnp.uint32)
    empty = constant.copy()
    empty[2] = -np.inf
    log_density, gram = sample_rows(empty, factor, rows, bits)
    assert np.isfinite(log_density)
    assert np.all(np.asarray(gram)[2] == 0)
    log_density, gram = sample_rows(np.full(4, np.nan), factor, rows, bits)
    assert np.isnan(log_density)
    assert np.asarray(gram)[:, 0].sum() == weight.sum()
