"""What is recommended, on candidates whose criteria are given."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

import clusterwise as cw
from clusterwise.selection.advice import recommend
from clusterwise.selection.candidates import Chain
from clusterwise.selection.criteria import CRITERIA, RowScores
from clusterwise.selection.table import Candidate


def candidates(values, rows=None, *, degenerate=(), empty=(), unsettled=()):
    """One candidate for each BIC, K from 1; ICL and AIC are as the BIC."""
    chain = Chain(cw.Model("y ~ x"), {}, tuple(range(1, len(values) + 1)))
    found = []
    for k, value in enumerate(values, start=1):
        weights = np.full(k, 1 / k)
        if k in empty:
            weights[-1] = 1e-9
        fit = SimpleNamespace(
            n_parameters=4 * k - 1,
            n_rows=100,
            converged=k not in unsettled,
            restarts=pd.DataFrame({"chosen": [True], "degenerate": [k in degenerate]}),
            weights=pd.Series(weights),
        )
        scores = {} if rows is None else {"cv": RowScores(rows[k - 1], np.ones(len(rows[0])))}
        criteria = {"bic": value, "icl": value, "aic": value}
        found.append(Candidate(chain, k, fit, criteria, scores, np.nan))
    return found


BIC, CV = CRITERIA["bic"], CRITERIA["cv"]


def test_a_clear_answer_is_short():
    text = recommend(candidates([140.0, 100.0, 110.0]), [BIC])
    assert text == "Take K = 2: BIC is best there, 100.00; K = 3 comes next, 10.00 worse."


def test_one_cluster_that_does_as_well():
    text = recommend(candidates([101.0, 100.0, 110.0]), [BIC])
    assert "one cluster does as well (K = 1 is only 1.00 behind" in text
    text = recommend(candidates([100.0, 110.0]), [BIC])
    assert "Take K = 1" in text and "Nothing is gained by a second cluster" in text


def test_one_standard_error():
    rng = np.random.default_rng(0)
    base = rng.normal(size=50)
    close = base + 0.01 + 0.1 * rng.normal(size=50)
    close += 0.3 / 50 - (close - base).mean()
    text = recommend(candidates([0, 0, 0], [base - 1, base, close]), [CV])
    assert text.startswith("Take K = 3: the held-out log score is best there")
    assert "K = 2 has fewer parameters and is within one standard error" in text


def test_a_test_is_said_by_what_it_rejects():
    lrt, values = CRITERIA["lrt"], [0.01, 0.4, np.nan]
    tried = [
        one._replace(values={**one.values, "lrt": value})
        for one, value in zip(candidates([3.0, 2.0, 1.0]), values, strict=True)
    ]
    assert recommend(tried, [lrt, BIC]) == (
        "Take K = 2: the likelihood-ratio test rejects K = 1 against K = 2 (p = 0.01) and does "
        "not reject K = 2 against K = 3 (p = 0.4). The criteria disagree: BIC prefers K = 3."
    )
    all_rejected = [one._replace(values={**one.values, "lrt": 0.02}) for one in tried[:2]]
    all_rejected.append(tried[2])
    assert "3 is the largest number of clusters tried" in recommend(all_rejected, [lrt])


def test_the_largest_number_tried():
    text = recommend(candidates([140.0, 120.0, 100.0]), [BIC])
    assert "n_components=range(1, 7)" in text


def test_disagreement_and_agreement():
    some = candidates([140.0, 100.0, 110.0])
    some[2].values["aic"] = 0.0
    text = recommend(some, [BIC, CRITERIA["icl"], CRITERIA["aic"]])
    assert "The criteria disagree: AIC prefers K = 3 (AIC tends to take" in text
    text = recommend(candidates([140.0, 100.0, 110.0]), [BIC, CRITERIA["icl"]])
    assert text.endswith(" worse. ICL agrees.")
    scores = [np.full(9, value) for value in (-2.0, 0.0, -1.0)]
    text = recommend(candidates([140.0, 100.0, 110.0], scores), [BIC, CV])
    assert text.endswith(" worse. The held-out log score agrees.")


def test_fits_that_are_not_to_be_trusted():
    values = [140.0, 100.0, 101.0, 150.0]
    text = recommend(candidates(values, degenerate=[2], empty=[2]), [BIC])
    assert "The fit of K = 2 is degenerate" in text
    assert "1 of its components has less than one row: 1 clusters do the same" in text
    text = recommend(candidates(values, degenerate=[3, 4], unsettled=[3, 4]), [BIC])
    assert "The fits of K = 3 and K = 4 are degenerate" in text
    # The last is too far behind for what it has left to gain.
    assert "K = 3 did not converge" in text
