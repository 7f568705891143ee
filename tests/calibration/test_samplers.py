"""A short calibration: kinds of weights, covariates and response with each sampler.

The full one is `make calibration`. Seeds are fixed; at other seeds the false alarm rate of each
test is 0.001.
"""

import pytest

from tests.calibration import geweke, library, sbc
from tests.calibration.registry import (
    COVARIATES,
    EXTENDED,
    RESPONSES,
    SAMPLERS,
    WEIGHTS,
    Combination,
)
from tests.calibration.report import LEVEL, joint_tests, rank_tests

# Processes that differ in numbers only share a program.
SHORT = [
    Combination("Dirichlet", "full", "sigma"),
    Combination("Dirichlet", "spherical", "known sigma"),
    Combination("Dirichlet", "tied", "none"),
    Combination("Dirichlet process", "none", "shared sigma"),
    Combination("Pitman-Yor", "none", "shared sigma"),
    Combination("Dirichlet process, known", "diagonal", "two"),
    Combination("Pitman-Yor, known", "diagonal", "two"),
    Combination("known weights", "none", "sigma"),
]
# One exact block and one with an order, two responses and known weights: the rest takes minutes.
FEW = [SHORT[0], SHORT[6], SHORT[7]]
RUNS = [
    pytest.param("gibbs", FEW, id="gibbs, a few"),
    pytest.param("gibbs", SHORT, id="gibbs", marks=pytest.mark.slow),
    # Trajectories take long to compile.
    pytest.param("nuts", [SHORT[6]], id="nuts", marks=pytest.mark.slow),
]
JOINT = [SHORT[0], SHORT[6]]
STEPPING = [name for name, sampler in SAMPLERS.items() if sampler.transition is not None]


def test_the_short_calibration_has_nearly_every_part():
    assert {c.weights for c in SHORT} == set(WEIGHTS)
    assert {c.covariates for c in SHORT} == set(COVARIATES) - {"known"}
    assert {c.response for c in SHORT} == set(RESPONSES)


@pytest.mark.long
@pytest.mark.parametrize(("name", "chosen"), RUNS)
def test_ranks_are_uniform(name, chosen):
    found = {c: sbc.run(SAMPLERS[name], c, 128, i, n_draws=15) for i, c in enumerate(chosen)}
    tests = rank_tests(found, few=True)
    worst = tests.owners[int(tests.raw.argmin())]
    assert tests.adjusted.min() >= LEVEL, worst


@pytest.mark.slow
@pytest.mark.parametrize("chosen", EXTENDED, ids=lambda c: c.name)
@pytest.mark.parametrize("name", SAMPLERS)
def test_ranks_are_uniform_of_families_and_gates(name, chosen):
    tests = rank_tests({chosen: sbc.run(SAMPLERS[name], chosen, 300, 0)}, few=True)
    worst = tests.owners[int(tests.raw.argmin())]
    assert tests.adjusted.min() >= LEVEL, worst


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPPING)
def test_both_simulators_agree(name):
    found = {c: geweke.run(SAMPLERS[name], c, 200, i, steps=40) for i, c in enumerate(JOINT)}
    tests = joint_tests(found)
    worst = tests.owners[int(tests.raw.argmin())]
    assert tests.adjusted.min() >= LEVEL, worst


@pytest.mark.slow
@pytest.mark.parametrize("name", library.ENGINES)
def test_ranks_of_fits_are_uniform(name):
    engine = library.ENGINES[name]
    found = {m: library.run(engine, m, 100, i) for i, m in enumerate(library.MODELS)}
    assert rank_tests(found, few=True).adjusted.min() >= LEVEL
