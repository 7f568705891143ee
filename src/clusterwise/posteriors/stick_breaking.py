"""Truncated stick-breaking weights with an unknown concentration.

Stick k of a Pitman-Yor process is Beta(1 - discount, concentration + k discount); discount zero is
the Dirichlet process (Ishwaran and James 2001, JASA 96). Given counts the sticks are independent
betas for each concentration, and the concentration has a density in one dimension, which is held
on a grid of its logarithm. So the joint posterior of sticks and concentration is exact for both
processes, up to the error of the trapezoid rule on a smooth function.
"""

from __future__ import annotations

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln, digamma, gammaln, polygamma
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.block import AbstractCoordinates, AbstractPosterior
from clusterwise.posteriors.coordinates import Location
from clusterwise.posteriors.dirichlet import WeightMoments, Weights
from clusterwise.posteriors.gamma import sample_log_gamma

_GRID = np.linspace(-22.0, 5.0, 271)
_SPACING = _GRID[1] - _GRID[0]
_EVERY = 5


class ConcentrationPrior(eqx.Module):
    """Gamma(shape, rate) on the concentration, or the known value shape / rate."""

    shape: Float[Array, ""]
    rate: Float[Array, ""]
    known: bool = eqx.field(static=True)

    @property
    def grid(self) -> Float[Array, " g"]:
        """Log concentrations around the prior's mean."""
        center = jnp.log(self.shape / self.rate)
        return center[None] if self.known else center + _GRID

    @property
    def log_spacing(self) -> float:
        """Log of the grid's step; a known value has all its mass in one point."""
        return 0.0 if self.known else float(np.log(_SPACING))

    def log_density(self, log_concentration: Float[Array, "..."]) -> Float[Array, "..."]:
        """Log density of the log concentration."""
        if self.known:
            return jnp.zeros_like(log_concentration)
        return (
            self.shape * (jnp.log(self.rate) + log_concentration)
            - self.rate * jnp.exp(log_concentration)
            - gammaln(self.shape)
        )


class StickCoordinates(AbstractCoordinates):
    """Log odds of the sticks, then the log concentration if that is unknown, standardised."""

    log_odds: Location
    log_concentration: Location
    known: bool = eqx.field(static=True)

    @property
    def size(self) -> int:
        return self.log_odds.middle.shape[0] + (0 if self.known else 1)

    def constrain(self, z: Float[Array, " size"]) -> tuple[Weights, Float[Array, ""]]:
        sticks = self.log_odds.middle.shape[0]
        log_odds = self.log_odds(z[:sticks])
        log_stick, log_rest = jax.nn.log_sigmoid(log_odds), jax.nn.log_sigmoid(-log_odds)
        log_det = _log_det(log_stick, log_rest) + self.log_odds.log_det
        log_concentration = self.log_concentration.middle
        if not self.known:
            log_concentration = self.log_concentration(z[sticks])
            log_det += log_concentration + self.log_concentration.log_det
        weights = Weights(_log_weights(log_stick, log_rest), jnp.exp(log_concentration))
        return weights, log_det

    def unconstrain(self, parameters: Weights) -> Float[Array, " size"]:
        log_stick, log_rest = _log_sticks(parameters.log_weights)
        z = self.log_odds.inverse(log_stick - log_rest)
        if self.known:
            return z
        own = self.log_concentration.inverse(jnp.log(parameters.concentration))
        return jnp.append(z, own)


class StickBreakingPosterior(AbstractPosterior):
    """Sticks and concentration given (expected) counts per cluster; a prior has counts of zero.

    `current` is the concentration that a Gibbs step starts from.
    """

    count: Float[Array, " k"]
    discount: Float[Array, ""]
    concentration: ConcentrationPrior
    current: Float[Array, ""]

    @property
    def label_groups(self) -> Int[np.ndarray, " k"]:
        """Components of one group, here all, may change their numbers."""
        return np.zeros(self.count.shape[0], int)

    def updated(self, count: Float[Array, " k"], moments: WeightMoments) -> Self:
        """Posterior after these counts."""
        return type(self)(
            self.count + count, self.discount, self.concentration, moments.concentration
        )

    @property
    def has_order(self) -> bool:
        """Whether clusters that trade places have other weights a priori: sticks do."""
        return True

    def draw_order(
        self,
        count: Float[Array, " k"],
        log_weights: Float[Array, "k l"],
        moments: WeightMoments,
        key: PRNGKeyArray,
    ) -> Int[Array, " k"]:
        """Move clusters to other sticks by Metropolis steps, the sticks integrated out.

        Any two exchange places; then neighbours, every second pair at once, since pairs do not
        see each other.

        Clusters that sit on late sticks, with empty ones before them, are otherwise long in
        getting away (Papaspiliopoulos and Roberts 2008, Biometrika 95; Hastie, Liverani and
        Richardson 2015, Statistics and Computing 25).
        """
        k = count.shape[0]
        order = jnp.arange(k)
        if k == 1:
            return order
        pair_key, accept_key = jax.random.split(key)
        pair = jax.random.choice(pair_key, k, (2,), replace=False)
        any_two = np.zeros(k, int), order.at[pair].set(pair[::-1])
        trials = [any_two, _neighbours(k, 0), _neighbours(k, 1)]
        pair_of, partner = (jnp.stack(part) for part in zip(*trials, strict=True))

        def step(order: Array, trial: tuple[Array, Array, Array]) -> tuple[Array, None]:
            pair_of, partner, key = trial
            counts = count[jnp.stack([order, order[partner]])]
            now, exchanged = betaln(*self._sticks(jnp.log(moments.concentration), counts))
            gain = jax.ops.segment_sum(exchanged - now, pair_of[:-1], k)
            accept = jnp.log(jax.random.uniform(key, (k,))) < gain
            return jnp.where(accept[pair_of], order[partner], order), None

        keys = jax.random.split(accept_key, len(trials))
        return jax.lax.scan(step, order, (pair_of, partner, keys))[0]

    def _prior_sticks(self, log_concentration: Array) -> tuple[Array, Array]:
        step = self.discount * jnp.arange(1, self.count.shape[0])
        second = jnp.exp(log_concentration)[..., None] + step
        return jnp.broadcast_to(1 - self.discount, second.shape), second

    def _sticks(self, log_concentration: Array, count: Array | None = None) -> tuple[Array, Array]:
        """Betas of the sticks after these counts, by default the posterior's."""
        count = self.count if count is None else count
        first, second = self._prior_sticks(log_concentration)
        later = jnp.cumsum(count[..., ::-1], axis=-1)[..., ::-1] - count
        return first + count[..., :-1], second + later[..., :-1]

    def _log_marginal(self, log_concentration: Array) -> Array:
        """Log joint density of the counts and the log concentration, sticks integrated out."""
        counts = jnp.stack([self.count, jnp.zeros_like(self.count)])
        after, before = jnp.moveaxis(
            betaln(*self._sticks(log_concentration[..., None], counts)), -2, 0
        )
        return self.concentration.log_density(log_concentration) + (after - before).sum(axis=-1)

    def _on_grid(self) -> tuple[Array, Array, Array]:
        """Grid, its probabilities, and the log evidence of the counts."""
        grid = self.concentration.grid
        log_joint = self._log_marginal(grid)
        total = jax.nn.logsumexp(log_joint)
        return grid, jnp.exp(log_joint - total), total + self.concentration.log_spacing

    def moments(self) -> WeightMoments:
        grid, probability, _ = self._on_grid()
        first, second = self._sticks(grid)
        total = digamma(first + second)
        log_stick = probability @ (digamma(first) - total)
        log_rest = probability @ (digamma(second) - total)
        return WeightMoments(_log_weights(log_stick, log_rest), probability @ jnp.exp(grid))

    def spread(self) -> Float[Array, " k"]:
        """Variances of the weights."""
        grid, probability, _ = self._on_grid()
        first, second = self._sticks(grid)
        total = first + second
        raised = jax.vmap(_log_weights)
        mean = jnp.exp(raised(jnp.log(first / total), jnp.log(second / total)))
        square = jnp.exp(
            raised(
                jnp.log(first * (first + 1) / (total * (total + 1))),
                jnp.log(second * (second + 1) / (total * (total + 1))),
            )
        )
        return probability @ square - jnp.square(probability @ mean)

    def predictive(self) -> Float[Array, " k"]:
        """Log probability of each cluster for a new row."""
        grid, probability, _ = self._on_grid()
        first, second = self._sticks(grid)
        total = jnp.log(first + second)
        log_mean = jax.vmap(_log_weights)(jnp.log(first) - total, jnp.log(second) - total)
        return jax.nn.logsumexp(log_mean + jnp.log(probability)[:, None], axis=0)

    def mode(self) -> Weights:
        grid = self.concentration.grid
        first, second = self._sticks(grid)
        total = first + second
        log_stick, log_rest = jnp.log(first / total), jnp.log(second / total)
        log_weights = jax.vmap(_log_weights)(log_stick, log_rest)
        profile = jax.vmap(lambda w, c: self.log_kernel(Weights(w, jnp.exp(c))))(log_weights, grid)
        best = jnp.argmax(profile)
        return Weights(log_weights[best], jnp.exp(grid[best]))

    def sample(self, key: PRNGKeyArray) -> Weights:
        concentration_key, first_key, second_key = jax.random.split(key, 3)
        concentration = self._sample_concentration(concentration_key)
        first, second = self._sticks(jnp.log(concentration))
        log_first = sample_log_gamma(first_key, first)
        log_second = sample_log_gamma(second_key, second)
        total = jnp.logaddexp(log_first, log_second)
        return Weights(_log_weights(log_first - total, log_second - total), concentration)

    def _sample_concentration(self, key: PRNGKeyArray) -> Float[Array, ""]:
        """Metropolis-Hastings with a histogram on part of the grid as an independent proposal.

        Sweeps spend their time on the grid's gamma functions; a finer one is hardly ever accepted
        more often.
        """
        if self.concentration.known:
            return self.current
        grid = self.concentration.grid[::_EVERY]
        spacing = _EVERY * _SPACING
        log_mass = self._log_marginal(grid)
        cell_key, jitter_key, accept_key = jax.random.split(key, 3)
        cell = jax.random.categorical(cell_key, log_mass)
        jitter = jax.random.uniform(jitter_key, minval=-spacing / 2, maxval=spacing / 2)
        values = jnp.stack([grid[cell] + jitter, jnp.log(self.current)])
        nearest = jnp.clip(jnp.round((values - grid[0]) / spacing), 0, grid.size - 1)
        log_ratio = self._log_marginal(values) - log_mass[nearest.astype(int)]
        proposed, current = values
        accept = jnp.log(jax.random.uniform(accept_key)) < log_ratio[0] - log_ratio[1]
        return jnp.exp(jnp.where(accept, proposed, current))

    def log_prob(self, parameters: Weights) -> Float[Array, ""]:
        _, _, log_evidence = self._on_grid()
        return self.unnormalised_log_prob(parameters) - log_evidence

    def unnormalised_log_prob(self, parameters: Weights) -> Float[Array, ""]:
        log_det = _log_det(*_log_sticks(parameters.log_weights))
        if not self.concentration.known:
            log_det += jnp.log(parameters.concentration)
        return self.log_kernel(parameters) - log_det

    def coordinates(self) -> StickCoordinates:
        grid, probability, _ = self._on_grid()
        middle = probability @ grid
        size = jnp.sqrt(probability @ jnp.square(grid - middle))
        first, second = self._sticks(middle)
        log_odds = Location(
            digamma(first) - digamma(second), jnp.sqrt(polygamma(1, first) + polygamma(1, second))
        )
        return StickCoordinates(log_odds, Location(middle, size), self.concentration.known)

    def log_kernel(self, parameters: Weights) -> Float[Array, ""]:
        log_stick, log_rest = _log_sticks(parameters.log_weights)
        log_concentration = jnp.log(parameters.concentration)
        prior_first, prior_second = self._prior_sticks(log_concentration)
        first, second = self._sticks(log_concentration)
        density = first * log_stick + second * log_rest - betaln(prior_first, prior_second)
        return jnp.sum(density) + self.concentration.log_density(log_concentration)

    def kl(self, prior: Self) -> Float[Array, ""]:
        _, _, log_evidence = self._on_grid()
        _, _, prior_evidence = prior._on_grid()
        gained = self.count - prior.count
        return jnp.sum(gained * self.moments().log_weights) - (log_evidence - prior_evidence)


def _neighbours(k: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of neighbours, from the first or the second place on: each place's pair and partner."""
    place = np.arange(k)
    partner = ((place + first) ^ 1) - first
    alone = (partner < 0) | (partner >= k)
    return (place + first) // 2, np.where(alone, place, partner)


def _log_weights(log_stick: Float[Array, " s"], log_rest: Float[Array, " s"]) -> Array:
    left = jnp.concatenate([jnp.zeros(1), jnp.cumsum(log_rest)])
    return left + jnp.concatenate([log_stick, jnp.zeros(1)])


def _log_det(log_stick: Float[Array, " s"], log_rest: Float[Array, " s"]) -> Array:
    """Log determinant of the map from log odds of sticks to weights.

    Each weight is its stick times what the sticks before left.
    """
    left = jnp.cumsum(log_rest) - log_rest
    return jnp.sum(log_stick + log_rest + left)


def _log_sticks(log_weights: Float[Array, " k"]) -> tuple[Array, Array]:
    """Log sticks and logs of what they leave, from log weights."""
    tail = jax.lax.cumlogsumexp(log_weights, reverse=True)
    return log_weights[:-1] - tail[:-1], tail[1:] - tail[:-1]
