"""Starts that a problem gives, beside those of the engine's own portfolio."""

import jax
import numpy as np

import clusterwise as cw
from clusterwise.engines.start import Start
from clusterwise.engines.step import expectation_program, start_program
from clusterwise.model import infer
from tests.laws.registry import CASES, N_CLUSTERS, SLOTS, pack, random_values


def test_memberships_are_counted_as_labels_and_in_part():
    case, rng = CASES["diagonal"], np.random.default_rng(1)
    rows, labels = pack(random_values(rng)), rng.integers(N_CLUSTERS, size=SLOTS)
    prior = case.prior()
    hard = start_program(case.block, prior, rows, labels)
    resp = np.eye(N_CLUSTERS)[labels].T
    soft = start_program(case.block, prior, rows, resp)
    jax.tree.map(np.testing.assert_array_equal, soft, hard)
    # Memberships of a posterior are those of the next iteration from it, up to the order.
    moments = soft.mode().moments()
    score = np.concatenate([case.block.score(moments, rows.chunk(i)) for i in range(2)], axis=1)
    resp = np.exp(score - np.logaddexp.reduce(score, axis=0))
    counts = np.asarray(
        case.block.counts(expectation_program(case.block, moments, rows).statistics)
    )
    again = start_program(case.block, prior, rows, resp)
    np.testing.assert_allclose(again.parts[0].alpha, prior.parts[0].alpha + np.sort(counts)[::-1])


def test_given_starts_lead_to_their_optima_and_are_named():
    # Four clouds at the corners of a rectangle, which two clusters halve either way.
    rng = np.random.default_rng(2)
    right, up = np.arange(160) % 2, np.arange(160) // 80
    data = np.column_stack([9.0 * right, 6.0 * up]) + rng.normal(size=(160, 2))
    model, engine = cw.Model(covariates="x0 + x1"), cw.EM(n_init=1)
    starts = [Start("right", right), Start("up", 0.1 + 0.8 * np.eye(2)[up])]
    record, problem, outcome = infer(model, data, engine, 0, starts=lambda problem: starts)
    assert (problem.starts, outcome.n_starts) == (starts, 3)
    first, second = (row["recipes"].split(", ") for row in record.restarts)
    assert ("right" in first, "up" in first) == (True, False)
    assert ("right" in second, "up" in second) == (False, True)
    means = np.asarray(record.optima.parts[1].coefficients)[:, :, 0]
    assert np.abs(means[:, 0] - means[:, 1]).argmax(axis=1).tolist() == [0, 1]
