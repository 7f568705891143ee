"""Statistics add over rows, whatever the chunks, blocks and stores they lie in."""

import jax
import numpy as np
import pytest

from clusterwise.core.rows import BLOCK_ROWS, CHUNK_ROWS, RowBlock, block_shape, pack_rows
from clusterwise.engines.step import expectation_program, start_program
from clusterwise.sources.store import DiskStore
from tests.laws.registry import (
    CASES,
    N_CLUSTERS,
    N_ROWS,
    SLOTS,
    make_source,
    members,
    pack,
    random_values,
)


def totals_of(case, moments, rows):
    return jax.tree.map(np.asarray, expectation_program(case.block, moments, rows))


def close(a, b, size=1.0):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10 * size)


@pytest.mark.parametrize("name", CASES)
def test_statistics_of_a_union_are_the_sum(name):
    case, rng = CASES[name], np.random.default_rng(1)
    values, weight = random_values(rng), rng.gamma(2.0, size=N_ROWS)
    moments = case.draw(rng).moments()
    whole = totals_of(case, moments, pack(values, weight))
    first = totals_of(case, moments, pack(values[:17], weight[:17]))
    second = totals_of(case, moments, pack(values[17:], weight[17:]))
    close(jax.tree.map(np.add, first, second), whole)


def upper_triangles(case, grams):
    """Of the columns that the case models."""
    columns = np.asarray(case.block.gram_columns)
    first, second = np.triu_indices(columns.size)
    return grams[:, columns[first], columns[second]]


@pytest.mark.parametrize("name", CASES)
def test_totals_equal_scipy_and_numpy(name):
    case, rng = CASES[name], np.random.default_rng(2)
    values, weight = random_values(rng), rng.gamma(2.0, size=N_ROWS)
    parameters = case.draw(rng)
    score = case.log_density(parameters, values)
    largest = score.max(axis=1)
    log_density = largest + np.log(np.exp(score - largest[:, None]).sum(axis=1))
    resp = np.exp(score - log_density[:, None]) * weight[:, None]
    grams = np.einsum("nk,nc,nd->kcd", resp, values, values)
    totals = totals_of(case, parameters.moments(), pack(values, weight))
    close(totals.log_density, weight @ log_density)
    close(totals.statistics[0], upper_triangles(case, grams))


@pytest.mark.parametrize("name", ["joint"])
@pytest.mark.parametrize("n", [CHUNK_ROWS + 1, 3 * CHUNK_ROWS - 5])
def test_chunks_and_padding_change_nothing(name, n):
    case, rng = CASES[name], np.random.default_rng(3)
    values, weight = random_values(rng, n), rng.gamma(2.0, size=n)
    moments = case.draw(rng).moments()
    rows = RowBlock.from_packed(pack_rows(values, weight))
    assert rows.packed.shape[0] > 1
    whole = RowBlock(np.column_stack([values, weight]).T[None], np.array(1))
    close(totals_of(case, moments, rows), totals_of(case, moments, whole), size=float(n))


def many_rows(n):
    rng = np.random.default_rng(4)
    return random_values(rng, n), rng.gamma(2.0, size=n)


@pytest.mark.parametrize("store", [None, DiskStore], ids=["memory", "disk"])
def test_several_blocks_equal_one_computation(store):
    n = BLOCK_ROWS + 3000
    case, (values, weight) = CASES["joint"], many_rows(n)
    parameters = case.draw(np.random.default_rng(5))
    moments = parameters.moments()
    source = make_source(values, weight, store=store() if store else None)
    assert source.n_blocks == 2
    totals = source.sum(lambda rows: expectation_program(case.block, moments, rows))
    score = case.log_density(parameters, values)
    log_density = np.logaddexp.reduce(score, axis=1)
    resp = np.exp(score - log_density[:, None]) * weight[:, None]
    expected = upper_triangles(case, np.einsum("nk,nc,nd->kcd", resp, values, values))
    np.testing.assert_allclose(totals.log_density, weight @ log_density, rtol=1e-10)
    np.testing.assert_allclose(totals.statistics[0], expected, rtol=1e-10, atol=1e-10 * n)


def test_a_disk_store_gives_back_what_it_was_given():
    values, weight = many_rows(900)
    memory = make_source(values, weight, block_rows=250)
    disk = make_source(values, weight, store=DiskStore(), block_rows=250)
    assert memory.n_blocks == disk.n_blocks == 4
    for part in (2, 0, 3, 1):
        one, other = memory.block(part), disk.block(part)
        np.testing.assert_array_equal(one.packed, other.packed)
        assert int(one.used) == int(other.used)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 2048, 2049, 5000, BLOCK_ROWS])
def test_packing_keeps_every_row_once(n):
    rng = np.random.default_rng(n)
    values = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    weight = rng.random(n)
    packed = pack_rows(values, weight)
    chunks, size = block_shape(n)
    assert packed.shape == (chunks, 4, size)
    assert chunks * size >= n
    flat = packed.transpose(0, 2, 1).reshape(-1, 4)
    np.testing.assert_array_equal(flat[:n, :3], values)
    np.testing.assert_array_equal(flat[:n, 3], weight)
    assert not flat[n:].any()
    assert int(RowBlock.from_packed(packed).used) == -(-n // size)


@pytest.mark.parametrize("name", CASES)
def test_statistics_of_labels(name):
    case, rng = CASES[name], np.random.default_rng(6)
    values, weight = random_values(rng), rng.gamma(2.0, size=N_ROWS)
    labels = rng.integers(N_CLUSTERS, size=N_ROWS)
    # Clusters are numbered by their weight, the largest first.
    size = np.bincount(labels, weights=weight, minlength=N_CLUSTERS)
    labels = np.pad(np.argsort(np.argsort(-size))[labels], (0, SLOTS - N_ROWS))
    rows = pack(values, weight)
    prior = case.prior()
    found = start_program(case.block, prior, rows, labels)
    resp = members(labels[:N_ROWS]) * weight
    for part, own, before in zip(case.parts, found.parts, prior.parts, strict=True):
        expected = part.posterior(values, resp, before)
        for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_rows_of_weight_zero_count_for_nothing():
    case, rng = CASES["joint"], np.random.default_rng(7)
    values = random_values(rng)
    weight = np.ones(N_ROWS)
    weight[30:] = 0
    moments = case.draw(rng).moments()
    close(
        totals_of(case, moments, pack(values, weight)),
        totals_of(case, moments, pack(values[:30])),
    )
