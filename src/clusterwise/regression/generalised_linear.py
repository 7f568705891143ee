"""The block of a generalised linear regression: a response by a few linear predictors."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.parts import AbstractSitedBlock
from clusterwise.posteriors.coefficients import (
    CoefficientMoments,
    Coefficients,
    NormalCoefficients,
)
from clusterwise.posteriors.linalg import definite
from clusterwise.regression.likelihood import AbstractLikelihood, Expansion

_WALKS = 0.2
"""Share of the proposals that are steps of a random walk."""


class SiteStatistics(NamedTuple):
    """Sums over rows of the expansion in the coefficients b: `shift^T b - b^T precision b / 2`."""

    precision: Float[Array, "k d d"]
    shift: Float[Array, "k d"]
    log_prob: Float[Array, " k"]
    """Summed log density, where the rows were counted."""


class GeneralisedLinear(AbstractSitedBlock):
    """A response given regressors, each predictor with coefficients of its own.

    Parameters
    ----------
    regressors
        For each predictor the columns of a row that it is linear in.
    observed
        Columns of the response, and of what else the likelihood needs.
    offset
        Column that is added to the first predictor, or None.
    likelihood
        Of the response given the predictors.
    """

    regressors: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    observed: tuple[int, ...] = eqx.field(static=True)
    offset: int | None = eqx.field(static=True)
    likelihood: AbstractLikelihood = eqx.field(static=True)

    @property
    def columns(self) -> tuple[int, ...]:
        offset = () if self.offset is None else (self.offset,)
        return tuple(dict.fromkeys((*sum(self.regressors, ()), *self.observed, *offset)))

    @property
    def responses(self) -> tuple[int, ...]:
        return self.observed

    @property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(own) for own in self.regressors])

    def _own(self, coefficients: Array) -> Array:
        """Coefficients of the regressors, before those that stand for others' means."""
        return coefficients[..., : self._ends[-1]]

    def _designs(self, values: Float[Array, "columns rows"]) -> list[Float[Array, "p rows"]]:
        return [values[np.asarray(own)] for own in self.regressors]

    def _predictors(
        self, coefficients: Float[Array, "k d"], values: Float[Array, "columns rows"]
    ) -> Float[Array, "m k rows"]:
        parts = jnp.split(self._own(coefficients), self._ends[:-1], axis=1)
        designs = self._designs(values)
        return jnp.stack([part @ design for part, design in zip(parts, designs, strict=True)])

    def predictors_of(self, coefficients: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Predictors (m, ..., n) of rows (n, columns) at coefficients (..., n, d) or (..., 1, d).

        In NumPy, for what is asked of a fit.
        """
        found, start = [], 0
        for own, end in zip(self.regressors, self._ends, strict=True):
            found.append((coefficients[..., start:end] * rows[:, list(own)]).sum(axis=-1))
            start = end
        if self.offset is not None:
            found[0] = found[0] + rows[:, self.offset]
        return np.stack(found)

    def _expanded(
        self, moments: CoefficientMoments, values: Float[Array, "columns rows"]
    ) -> Expansion:
        mean = self._predictors(moments.values, values)
        if self.offset is not None:
            mean = mean.at[0].add(values[self.offset])
        observed = values[np.asarray(self.observed)]
        k, s, d = moments.spread.shape
        if s == 0:
            return self.likelihood.expansion(observed, mean)
        deviations = self._predictors(moments.spread.reshape(k * s, d), values)
        deviations = deviations.reshape(len(self.regressors), k, s, -1)
        covariance = jnp.einsum("aksr,bksr->abkr", deviations, deviations)
        return self.likelihood.expected(observed, mean, covariance)

    def score(
        self, moments: CoefficientMoments, values: Float[Array, "columns rows"]
    ) -> Float[Array, "k rows"]:
        return self._expanded(moments, values).value

    def statistics(
        self,
        moments: CoefficientMoments,
        values: Float[Array, "columns rows"],
        resp: Float[Array, "k rows"],
    ) -> SiteStatistics:
        value, gradient, curvature = self._expanded(moments, values)
        if self.likelihood.apart:
            curvature = curvature * np.eye(len(self.regressors))[:, :, None, None]
        designs = self._designs(values)
        blocks = [
            [_weighted_products(a, b, resp * curvature[i, j]) for j, b in enumerate(designs)]
            for i, a in enumerate(designs)
        ]
        precision = jnp.block(blocks)
        slope = jnp.concatenate(
            [(resp * own) @ design.T for own, design in zip(gradient, designs, strict=True)], axis=1
        )
        shift = slope + jnp.einsum("kde,ke->kd", precision, self._own(moments.values))
        return SiteStatistics(precision, shift, jnp.sum(resp * value, axis=1))

    def gram(
        self, values: Float[Array, "columns rows"], resp: Float[Array, "k rows"]
    ) -> Float[Array, "k d d"]:
        """Weighted Gram matrices of the predictors' regressors, those of one predictor together."""
        own = [_weighted_products(a, a, resp) for a in self._designs(values)]
        return jax.vmap(jax.scipy.linalg.block_diag)(*own)

    def cross_score(
        self, moments: CoefficientMoments, statistics: SiteStatistics
    ) -> Float[Array, "k l"]:
        values = self._own(moments.values)
        linear = statistics.shift @ values.T
        square = jnp.einsum("ld,kde,le->kl", values, statistics.precision, values)
        return linear - 0.5 * square

    def posterior(self, statistics: SiteStatistics, prior: Any, moments: CoefficientMoments) -> Any:
        normal = self._updated(statistics, prior.given(moments.precisions), moments)
        return prior.completed(normal, moments.precisions)

    def _updated(
        self, statistics: SiteStatistics, prior: NormalCoefficients, moments: CoefficientMoments
    ) -> NormalCoefficients:
        """Posterior of the coefficients, the precisions of their prior being given."""
        precision, shift, _ = statistics
        if not (self.likelihood.concave or self.likelihood.apart):
            mended, values = definite(precision), self._own(moments.values)
            shift = shift + jnp.einsum("kde,ke->kd", mended - precision, values)
            precision = mended
        return prior.updated(precision, shift)

    def blend(self, old: Any, new: Any, rate: Float[Array, ""]) -> Any:
        return old.blended(new, rate)

    def log_prob(self, statistics: SiteStatistics) -> Float[Array, " k"]:
        return statistics.log_prob

    def proposed(
        self,
        prior: Any,
        now: Coefficients,
        drawn: Coefficients,
        statistics: SiteStatistics,
        key: PRNGKeyArray,
    ) -> Coefficients:
        """A draw of the expansion's posterior: of each cluster's coefficients given the shared.

        Where rows depend on the shared ones it is those, given the others, every other time. All
        at once would seldom pass the test with many clusters, and one by one they could not.

        Now and then it is a step from where the coefficients are: where the expansion goes too
        far, as Newton's method may, all draws of it would fail.
        """
        moments = now.moments()
        found = self._updated(statistics, prior.given(moments.precisions), moments)
        own = _step(_own_part(found, now), now, key)
        if not found.places.shared_with_rows:
            return Coefficients(own)
        coin, other = jax.random.split(jax.random.fold_in(key, 1))
        shared = _step(_shared_part(found, now), now, other)
        chosen = jnp.where(jax.random.bernoulli(coin), shared, own)
        return Coefficients(chosen, now.log_precisions)

    def corrected(
        self,
        prior: Any,
        now: Coefficients,
        proposed: Coefficients,
        statistics: tuple[SiteStatistics, SiteStatistics],
        key: PRNGKeyArray,
    ) -> Coefficients:
        """Test a draw of the expansion's posterior (Gamerman 1997, Statistics and Computing 7).

        Its density is that of the draw and of the step of a random walk together.

        Clusters are tested one by one, or together where what they share has been drawn. Means of
        coefficients, and precisions of the prior that are learned, are drawn afterwards.
        """
        before, after = now.moments(), proposed.moments()
        given = prior.given(before.precisions)
        forward = self._updated(statistics[0], given, before)
        back = self._updated(statistics[1], given, after)
        gain = statistics[1].log_prob - statistics[0].log_prob

        def log_ratio(part: Any) -> Array:
            own = part(given, now)
            found = own.log_prob_by_cluster(proposed) - own.log_prob_by_cluster(now)
            found += _log_step(part(back, proposed), proposed, now)
            return gain + found - _log_step(part(forward, now), now, proposed)

        log_uniform = jnp.log(jax.random.uniform(key, gain.shape))
        accepted = log_uniform < log_ratio(_own_part)
        together = given.places.shared_with_rows
        if together:
            whole = log_uniform[0] < jnp.sum(log_ratio(_shared_part))
            moved = jnp.any(proposed.values != now.values, where=_at(given, together))
            accepted = jnp.where(moved, whole, accepted)
        values = jnp.where(accepted[:, None], proposed.values, now.values)
        return prior.refreshed(values, before.precisions, jax.random.fold_in(key, 1))


def _own_part(normal: NormalCoefficients, at: Coefficients) -> NormalCoefficients:
    return normal.own_given(at.values)


def _shared_part(normal: NormalCoefficients, at: Coefficients) -> NormalCoefficients:
    return normal.shared_given(at.values, normal.places.shared_with_rows)


def _step(normal: NormalCoefficients, now: Coefficients, key: PRNGKeyArray) -> Float[Array, "k d"]:
    """A draw of a normal distribution, or one about where the coefficients are.

    Each cluster has its own of the two, unless what they share is drawn.
    """
    draw_key, coin_key = jax.random.split(key)
    drawn = normal.sample(draw_key).values
    apart = (1 if normal.is_joint else drawn.shape[0], 1)
    walks = jax.random.bernoulli(coin_key, _WALKS, apart)
    return jnp.where(walks, now.values + _scale(normal) * (drawn - normal.mean), drawn)


def _log_step(
    normal: NormalCoefficients, now: Coefficients, then: Coefficients
) -> Float[Array, " k"]:
    """Log density of `_step`, by cluster; of what they share an equal part each."""
    walk = normal.about(now.values, _scale(normal))
    parts = jnp.stack([own.log_prob_by_cluster(then) for own in (normal, walk)])
    shares = jnp.log(jnp.array([1 - _WALKS, _WALKS]))
    if not normal.is_joint:
        return jax.nn.logsumexp(parts + shares[:, None], axis=0)
    total = jax.nn.logsumexp(jnp.sum(parts, axis=1) + shares)
    return jnp.broadcast_to(total / parts.shape[1], parts.shape[1:])


def _scale(normal: NormalCoefficients) -> float:
    """Of a random walk among normal coefficients, the best one (Gelman, Roberts and Gilks 1996)."""
    return 2.38 / np.sqrt(max(normal.n_free, 1))


def _at(normal: NormalCoefficients, places: tuple[int, ...]) -> np.ndarray:
    """Where a coefficient is at one of these places (1, d)."""
    return np.isin(np.arange(normal.places.size), places)[None]


def _weighted_products(
    a: Float[Array, "p rows"], b: Float[Array, "q rows"], weight: Float[Array, "k rows"]
) -> Float[Array, "k p q"]:
    """Weighted sums over rows of products of columns, for all clusters in one matrix product."""
    p, q = a.shape[0], b.shape[0]
    pairs = (a[:, None, :] * b[None, :, :]).reshape(p * q, -1)
    return (weight @ pairs.T).reshape(-1, p, q)
