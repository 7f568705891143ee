"""The block of a generalised linear regression: a response by a few linear predictors."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.product import AbstractSitedBlock
from clusterwise.posteriors.coefficients import (
    CoefficientMoments,
    Coefficients,
    NormalCoefficients,
)
from clusterwise.posteriors.linalg import definite
from clusterwise.regression.likelihood import AbstractLikelihood, Expansion


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

    def _designs(self, values: Float[Array, "columns rows"]) -> list[Float[Array, "p rows"]]:
        return [values[np.asarray(own)] for own in self.regressors]

    def _predictors(
        self, coefficients: Float[Array, "k d"], values: Float[Array, "columns rows"]
    ) -> Float[Array, "m k rows"]:
        parts = jnp.split(coefficients, self._ends[:-1], axis=1)
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
        designs = self._designs(values)
        blocks = [
            [_weighted_products(a, b, resp * curvature[i, j]) for j, b in enumerate(designs)]
            for i, a in enumerate(designs)
        ]
        precision = jnp.block(blocks)
        slope = jnp.concatenate(
            [(resp * own) @ design.T for own, design in zip(gradient, designs, strict=True)], axis=1
        )
        shift = slope + jnp.einsum("kde,ke->kd", precision, moments.values)
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
        linear = statistics.shift @ moments.values.T
        square = jnp.einsum("ld,kde,le->kl", moments.values, statistics.precision, moments.values)
        return linear - 0.5 * square

    def posterior(
        self, statistics: SiteStatistics, prior: NormalCoefficients, moments: CoefficientMoments
    ) -> NormalCoefficients:
        precision, shift, _ = statistics
        if not self.likelihood.concave:
            mended = definite(precision)
            shift = shift + jnp.einsum("kde,ke->kd", mended - precision, moments.values)
            precision = mended
        return prior.updated(precision, shift)

    def blend(
        self, old: NormalCoefficients, new: NormalCoefficients, rate: Float[Array, ""]
    ) -> NormalCoefficients:
        return old.blended(new, rate)

    def log_prob(self, statistics: SiteStatistics) -> Float[Array, " k"]:
        return statistics.log_prob

    def corrected(
        self,
        prior: NormalCoefficients,
        now: Coefficients,
        proposed: Coefficients,
        statistics: tuple[SiteStatistics, SiteStatistics],
        key: PRNGKeyArray,
    ) -> Coefficients:
        """Test a draw of the expansion's posterior (Gamerman 1997, Statistics and Computing 7).

        Clusters are tested one by one, or together where they share coefficients.
        """
        forward = self.posterior(statistics[0], prior, now.moments())
        back = self.posterior(statistics[1], prior, proposed.moments())

        def gain(at: Coefficients, own: SiteStatistics) -> Array:
            return own.log_prob + prior_log_prob(at)

        prior_log_prob = _log_prob(prior)
        log_ratio = (
            gain(proposed, statistics[1])
            - gain(now, statistics[0])
            + _log_prob(back)(now)
            - _log_prob(forward)(proposed)
        )
        if prior.shared_places:
            log_ratio = jnp.sum(log_ratio)
        uniform = jax.random.uniform(key, log_ratio.shape)
        accepted = jnp.log(uniform) < log_ratio
        return Coefficients(jnp.where(accepted[..., None], proposed.values, now.values))


def _log_prob(distribution: NormalCoefficients) -> Any:
    """Log density of each cluster; where coefficients are shared an equal part of the whole."""
    if not distribution.shared_places:
        return distribution.log_prob_by_cluster
    k = distribution.mean.shape[0]
    return lambda at: jnp.broadcast_to(distribution.log_prob(at) / k, (k,))


def _weighted_products(
    a: Float[Array, "p rows"], b: Float[Array, "q rows"], weight: Float[Array, "k rows"]
) -> Float[Array, "k p q"]:
    """Weighted sums over rows of products of columns, for all clusters in one matrix product."""
    p, q = a.shape[0], b.shape[0]
    pairs = (a[:, None, :] * b[None, :, :]).reshape(p * q, -1)
    return (weight @ pairs.T).reshape(-1, p, q)
