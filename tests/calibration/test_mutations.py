"""Calibration finds what it is for: samplers with one error each."""

from functools import partial

import jax.numpy as jnp
import pytest

from clusterwise.posteriors.covariance import InverseGamma, InverseWishart
from clusterwise.posteriors.matrix_normal import LinearParameters, MatrixNormal
from clusterwise.posteriors.stick_breaking import StickBreakingPosterior
from clusterwise.weights.mixing import MixingWeights
from tests.calibration import geweke, sbc
from tests.calibration.registry import Combination, chain_of, one_sweep
from tests.calibration.report import LEVEL, joint_tests, rank_tests


def one_more_degree_of_freedom(patch):
    right = InverseWishart.updated

    def updated(self, scatter, count):
        found = right(self, scatter, count)
        return InverseWishart(found.dof + 1, found.scale)

    patch.setattr(InverseWishart, "updated", updated)


def concentration_stays(patch):
    patch.setattr(StickBreakingPosterior, "_sample_concentration", lambda self, key: self.current)


def counts_are_one_cluster_off(patch):
    right = MixingWeights.posterior

    def posterior(self, sums, prior, moments):
        return right(self, jnp.roll(sums, 1, axis=0), prior, moments)

    patch.setattr(MixingWeights, "posterior", posterior)


def sticks_count_their_own_rows_as_later(patch):
    def sticks(self, log_concentration):
        first, second = self._prior_sticks(log_concentration)
        later = jnp.cumsum(self.count[::-1])[::-1]
        return first + self.count[:-1], second + later[:-1]

    patch.setattr(StickBreakingPosterior, "_sticks", sticks)


def coefficients_are_means(patch):
    right = MatrixNormal.sample

    def sample(self, key):
        return LinearParameters(self.mean, right(self, key).covariance)

    patch.setattr(MatrixNormal, "sample", sample)


def spherical_variance_sees_one_column(patch):
    right = InverseGamma.updated

    def updated(self, scatter, count):
        found = right(self, scatter, count)
        repeats = self.size // self.shape.shape[1]
        return InverseGamma(
            self.shape + (found.shape - self.shape) / repeats, found.rate, self.size
        )

    patch.setattr(InverseGamma, "updated", updated)


MUTATIONS = {
    one_more_degree_of_freedom: Combination("Dirichlet", "none", "sigma"),
    concentration_stays: Combination("Dirichlet process", "known", "none"),
    counts_are_one_cluster_off: Combination("Dirichlet", "none", "known sigma"),
    sticks_count_their_own_rows_as_later: Combination("Pitman-Yor, known", "known", "none"),
    coefficients_are_means: Combination("Dirichlet", "known", "none"),
    spherical_variance_sees_one_column: Combination("Dirichlet", "spherical", "none"),
}


# Where calibration may break at once: a wrong count, a constant, and a draw that is none. The other
# errors are found in the slow runs.
USUAL = {
    "ranks": {counts_are_one_cluster_off, concentration_stays},
    "joint": {coefficients_are_means},
}


def mutations(test, chosen):
    """Parameters of a test, those that are not usual slow."""
    return [
        pytest.param(m, id=m.__name__, marks=[] if m in USUAL[test] else pytest.mark.slow)
        for m in chosen
    ]


def mutant():
    """The Gibbs sampler as a function of its own, so that it is traced anew."""
    return chain_of(partial(one_sweep), warmup=60, thin=4)


@pytest.mark.long
@pytest.mark.parametrize("mutate", mutations("ranks", MUTATIONS))
def test_ranks_find_it(mutate, monkeypatch):
    mutate(monkeypatch)
    found = sbc.run(mutant(), MUTATIONS[mutate], 400, 5, n_draws=15)
    assert rank_tests({mutate: found}, few=True).adjusted.min() < LEVEL


@pytest.mark.long
@pytest.mark.parametrize(
    # Kept as drawn from its prior, the concentration is where it has to be: only ranks find that.
    "mutate",
    mutations("joint", [m for m in MUTATIONS if m is not concentration_stays]),
)
def test_joint_distribution_finds_it(mutate, monkeypatch):
    mutate(monkeypatch)
    found = geweke.run(mutant(), MUTATIONS[mutate], 300, 5, steps=40)
    assert joint_tests({mutate: found}).adjusted.min() < LEVEL


@pytest.mark.long
def test_ranks_find_that_padding_is_counted():
    def transition(block, prior, parameters, rows, key):
        rows = rows._replace(packed=rows.packed.at[:, -1].set(1.0))
        return one_sweep(block, prior, parameters, rows, key)

    combination = Combination("Dirichlet", "none", "sigma")
    found = sbc.run(chain_of(transition, warmup=60, thin=4), combination, 400, 5, n_draws=15)
    assert rank_tests({"padding": found}, few=True).adjusted.min() < LEVEL


@pytest.mark.long
def test_ranks_find_that_data_are_ignored():
    # Ranks of parameters alone do not: draws of the prior are uniform among draws of the prior.
    def transition(block, prior, parameters, rows, key):
        return prior.sample(key)

    combination = Combination("Dirichlet", "none", "sigma")
    found = sbc.run(chain_of(transition, warmup=0, thin=1), combination, 400, 5, n_draws=15)
    tests = rank_tests({"data": found}, few=True)
    assert tests.adjusted.min() < LEVEL
    own = [name == "largest weight" for _, name, _ in tests.owners]
    assert tests.adjusted[own].min() > LEVEL
