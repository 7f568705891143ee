"""Numbers are those of arviz-stats; the verdict names what is wrong and its cure."""

import warnings
from functools import partial

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy.signal import lfilter

from clusterwise.core.errors import DataError
from clusterwise.inference.confidence import Confidence
from clusterwise.inference.diagnostics import COLUMNS, diagnose, energy_fractions
from clusterwise.inference.modes import Mode
from clusterwise.inference.verdict import verdict


def chains(seed, *shape, correlation=0.2):
    noise = np.random.default_rng(seed).normal(size=(4, 600, *shape))
    return lfilter([1], [1, -correlation], noise, axis=1)[:, 100:]


def test_numbers_are_those_of_arviz_stats():
    slopes = 1e6 + np.exp(chains(0, 2, 3))
    density = chains(1)
    table = diagnose(
        {"slopes": slopes}, {"log density": density}, coords={"slopes": [range(2), "abc"]}
    )
    assert list(table["quantity"][[0, 5, 6]]) == ["slopes[0, a]", "slopes[1, c]", "log density"]
    assert list(table["component"][:6]) == [0, 0, 0, 1, 1, 1]
    assert list(table["kind"]) == ["component"] * 6 + ["invariant"]
    numbers = [*slopes.reshape(4, -1, 6).transpose(2, 0, 1), density]
    for column, oracle in {
        "rhat": array_stats.rhat,
        "ess_bulk": array_stats.ess,
        "ess_tail": partial(array_stats.ess, method="tail", prob=(0.05, 0.95)),
        "mcse": array_stats.mcse,
        "mean": np.mean,
        "sd": partial(np.std, ddof=1),
    }.items():
        expected = [oracle(values) for values in numbers]
        # The two middle draws are equally far from the median; rounding orders them.
        np.testing.assert_allclose(table[column], expected, rtol=1e-4, err_msg=column)
    tiny = diagnose(invariants={"log density": 1e-20 * density}).iloc[0]
    for column, unit in {"rhat": 1, "ess_bulk": 1, "ess_tail": 1, "mcse": 1e-20}.items():
        assert tiny[column] == pytest.approx(unit * table[column][6], rel=1e-4)


def test_what_never_changes_is_known_and_makes_no_noise():
    rounding = 0.1 * (1 + 2e-16 * np.random.default_rng(0).integers(0, 2, (4, 100)))
    values = np.stack([rounding, chains(2)[:, :100]], axis=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = diagnose({"sigma": values})
        found = verdict(diagnose({"sigma": values[:, :, :1]}))
    assert table["mean"][0] == pytest.approx(0.1) and table["sd"][0] == 0 and table["mcse"][0] == 0
    assert table.loc[0, ["rhat", "ess_bulk", "ess_tail"]].isna().all()
    assert np.isfinite(table.loc[1, list(COLUMNS[3:])].to_numpy(float)).all()
    assert found.flag == "good" and "Nothing varies" in found.sentences[0]


def test_chains_that_stand_still_apart_disagree():
    values = np.repeat(np.arange(4.0), 100).reshape(4, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = diagnose(invariants={"density": values})
        found = verdict(table)
    assert table["rhat"][0] > 1e6
    assert found.flag == "bad" and "more chains" in found.sentences[0]


@pytest.mark.parametrize("shape", [(1, 100), (4, 3), (1, 1)])
def test_few_chains_or_draws_are_said(shape):
    values = np.random.default_rng(0).normal(size=shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = diagnose(invariants={"density": values})
        found = verdict(table)
    assert table["rhat"].isna().all()
    assert found.flag != "good"
    assert ("num_chains" if shape[1] == 100 else "num_samples") in " ".join(found.sentences)


def test_good_draws_are_good():
    found = verdict(
        diagnose({"mean": chains(3, 2)}, {"density": chains(4)}),
        confidence=Confidence(0.999, np.array([0.999, 0.999]), np.ones(2000)),
        modes=[Mode(1.0, np.ones(4), 0.0, 0, np.zeros(2), np.ones(2000, bool))],
        deepest_trees=3,
    )
    assert found.flag == "good" and len(found.sentences) == 1
    assert "Chains agree" in found.sentences[0] and "99.9%" in found.sentences[0]


def shifted(values, by):
    return values + by * np.array([0, 0, 0, 1]).reshape(4, *[1] * (values.ndim - 1))


CASES = {
    "labels alone": (
        {"components": {"mean": shifted(chains(5, 3), 3)}, "invariants": {"density": chains(6)}},
        {},
        "bad",
        ["After relabelling chains disagree on components 0, 1 and 2", "fewer components"],
    ),
    "chains": (
        {"components": {"mean": chains(5, 2)}, "invariants": {"density": shifted(chains(6), 3)}},
        {},
        "bad",
        ["density", "no renumbering of components changes", "num_warmup"],
    ),
    "nearly": (
        {"components": {"mean": shifted(chains(3, 1), 0.4)}},
        {},
        "caution",
        ["disagree on component 0", "R-hat up to 1.0"],
    ),
    "slow": (
        {"components": {"mean": chains(7, 1, correlation=0.85)}},
        {},
        "caution",
        ["Few effective draws of mean[0]", "raise num_samples"],
    ),
    "unsure": (
        {"components": {"mean": chains(3, 4)}},
        {"confidence": Confidence(0.6, np.array([0.99, 0.6, 0.99, 0.62]), np.ones(2000))},
        "caution",
        ["unsure for components 1 and 3", "0.60", "fewer components"],
    ),
    "some divergences": (
        {"components": {"mean": chains(3, 1)}},
        {"divergences": 3},
        "caution",
        ["3 draws of 2000 diverged", "target_accept"],
    ),
    "many divergences": (
        {"components": {"mean": chains(3, 1)}},
        {"divergences": 300},
        "bad",
        ["target_accept"],
    ),
    "deep trees": (
        {"components": {"mean": chains(3, 1)}},
        {"deepest_trees": 300},
        "caution",
        ["max_tree_depth"],
    ),
    "slow energy": (
        {"components": {"mean": chains(3, 1)}},
        {"energy_fractions": np.array([0.31, 0.29, np.nan, 0.104])},
        "caution",
        ["energy of chains 1 and 3", "E-BFMI 0.10; 0.3 is needed", "stronger priors"],
    ),
    "not finite": (
        {"components": {"mean": np.where(chains(3, 2) > 3, np.nan, chains(3, 2))}},
        {},
        "bad",
        ["mean[0] and mean[1] are not finite"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_verdict_names_the_trouble_and_its_cure(name):
    quantities, options, flag, words = CASES[name]
    found = verdict(diagnose(**quantities), **options)
    text = " ".join(found.sentences)
    assert found.flag == flag, text
    for word in words:
        assert word in text
    assert str(found).startswith(flag)


def test_energy_fraction_of_an_autoregression_follows_from_its_correlation():
    # The variance of a step over that of the values is 2 (1 - r); 500 draws of each chain.
    for correlation in (0.0, 0.5, 0.9):
        found = energy_fractions(1e5 + chains(8, correlation=correlation))
        np.testing.assert_allclose(found, 2 * (1 - correlation), rtol=0.5)
        assert np.mean(found) == pytest.approx(2 * (1 - correlation), rel=0.2)
    energy = chains(8)
    energy[1], energy[2, 7] = 3.0, np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(energy_fractions(energy)).tolist() == [False, True, True, False]
        assert np.isnan(energy_fractions(energy[:, :3])).all()


@pytest.mark.parametrize("stuck, flag", [(True, "bad"), (False, "caution")])
def test_a_second_mode_is_said_with_its_share(stuck, flag):
    share = np.array([0, 0, 0, 1.0]) if stuck else np.array([0.1, 0.2, 0.3, 0.4])
    members = np.zeros(2000, bool)
    both = [
        Mode(1 - share.mean(), 1 - share, -100.0, 0, np.zeros(1), ~members),
        Mode(share.mean(), share, -130.5, 0, np.ones(1), members),
    ]
    found = verdict(diagnose({"mean": chains(3, 1)}), modes=both)
    assert found.flag == flag
    assert "25% of the draws" in found.sentences[0] and "30.5 lower" in found.sentences[0]
    assert ("where chains started" in found.sentences[0]) == stuck


def test_what_is_no_quantity_is_refused():
    with pytest.raises(DataError, match="no quantity"):
        diagnose()
    with pytest.raises(DataError, match="component"):
        diagnose({"mean": np.zeros((4, 10))})
    with pytest.raises(DataError, match="different"):
        diagnose({"mean": np.zeros((4, 10, 2))}, {"density": np.zeros((4, 9))})
    with pytest.raises(DataError, match="coords"):
        diagnose({"mean": np.zeros((4, 10, 2))}, coords={"mean": ["abc"]})
