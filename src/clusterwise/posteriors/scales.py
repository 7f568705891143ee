"""Coefficients whose prior's standard deviations are learned with them: pooled and sparse ones.

Contrasts of the coefficients, each of them minus its mean over clusters or minus zero, are normal
about zero. The precision of a contrast is a product of factors, each for one contrast or for many:
one for each term pools the clusters' coefficients of it, one for each cluster is a ridge, and that
times one for each coefficient the horseshoe (Carvalho, Polson and Scott 2010, Biometrika 97). The
square root of the inverse of a factor is half-Cauchy (Gelman 2006, Bayesian Analysis 1).

Under a half-Cauchy prior of width a the density of a precision w is proportional to
w^(-1/2) / (w + a^-2), a gamma mixture of gammas (Wand, Ormerod, Padoan and Frühwirth 2011, Bayesian
Analysis 6; Makalic and Schmidt 2016, IEEE Signal Processing Letters 23). Given the mixing variable
a factor is gamma, which Gibbs sampling draws in turn. Under independent posteriors of both, that of
the mixing variable follows from the mean of the factor, so that it is not kept: what it leaves is
the tangent of -log(w + a^-2), which is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.block import AbstractCoordinates, AbstractPosterior
from clusterwise.posteriors.coefficients import (
    CoefficientMoments,
    Coefficients,
    NormalCoefficients,
    Precisions,
)
from clusterwise.posteriors.coordinates import Location, log_gamma_location
from clusterwise.posteriors.gamma import sample_log_gamma
from clusterwise.posteriors.matrix_normal import CoefficientSpread


@dataclass(frozen=True)
class Contrasts:
    """Differences between each cluster's coefficients at some places and those at others.

    Parameters
    ----------
    size
        Number d of coefficients of a cluster, their means included.
    places
        Of the coefficients.
    columns
        For each factor of the precisions which of its columns every contrast has.
    centres
        Of their means; none: they are compared with zero.
    """

    size: int
    places: tuple[int, ...]
    columns: tuple[tuple[int, ...], ...] = ()
    centres: tuple[int, ...] = ()

    @cached_property
    def matrix(self) -> Float[np.ndarray, "t d"]:
        """What a cluster's coefficients are multiplied by."""
        eye = np.eye(self.size)
        found = eye[list(self.places)]
        return found - eye[list(self.centres)] if self.centres else found

    def squares(self, moments: CoefficientMoments) -> Float[Array, "k t"]:
        """Expected squares."""
        spread = jnp.square(moments.spread @ self.matrix.T).sum(axis=1)
        return jnp.square(moments.values @ self.matrix.T) + spread

    def precision(self, each: Any) -> Any:
        """Precision (k, d, d) of the coefficients, from that of each contrast (k, t)."""
        return self.matrix.T @ (each[:, :, None] * self.matrix)

    def spread_out(self, values: Array, i: int) -> Float[Array, "... t"]:
        """Values of the i-th factor's columns, for every contrast."""
        return values[..., np.asarray(self.columns[i])]

    def summed(self, values: Float[Array, "k t"], i: int, shape: tuple[int, ...]) -> Array:
        """Sums over the contrasts, and clusters, that an entry of the i-th factor is of."""
        found = values @ (np.asarray(self.columns[i])[:, None] == np.arange(shape[1]))
        return found.sum(axis=0, keepdims=True) if shape[0] == 1 else found


class HalfCauchyFactor(NamedTuple):
    """Half-Cauchy prior of a factor of precisions, by the widths of its standard deviations."""

    width: Float[Array, "..."]

    @property
    def centre(self) -> Float[Array, "..."]:
        """The precision at which the standard deviation is the prior's median."""
        return self.width**-2

    def log_density(self, log_precision: Float[Array, "..."]) -> Float[Array, ""]:
        """Of the logarithms of precisions."""
        excess = jnp.logaddexp(log_precision, -2 * jnp.log(self.width))
        return jnp.sum(log_precision / 2 - excess - jnp.log(np.pi * self.width))

    def tangent(self, mean: Float[Array, "..."]) -> Float[Array, "..."]:
        """Rate of the gamma density that the prior is, given the mixing variable."""
        return 1 / (mean + self.centre)

    def sample_rate(self, key: PRNGKeyArray, precision: Float[Array, "..."]) -> Array:
        """A draw of the mixing variable given precisions."""
        uniform = jax.random.uniform(key, precision.shape)
        return -jnp.log1p(-uniform) / (precision + self.centre)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "..."]:
        """Logarithms of precisions."""
        angle = np.pi / 2 * jax.random.uniform(key, self.width.shape)
        return -2 * jnp.log(self.width * jnp.tan(angle))


class GammaFactor(NamedTuple):
    """Gamma distributions of a factor of precisions."""

    shape: Float[Array, "..."]
    rate: Float[Array, "..."]

    @property
    def mean(self) -> Float[Array, "..."]:
        """Expected precision."""
        return self.shape / self.rate

    @property
    def mean_log(self) -> Float[Array, "..."]:
        """Expected logarithm."""
        return digamma(self.shape) - jnp.log(self.rate)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "..."]:
        """Logarithms."""
        return sample_log_gamma(key, self.shape) - jnp.log(self.rate)

    def log_density(self, log_precision: Float[Array, "..."]) -> Float[Array, ""]:
        """Of the logarithms."""
        kernel = self.shape * log_precision - self.rate * jnp.exp(log_precision)
        return jnp.sum(kernel + self.shape * jnp.log(self.rate) - gammaln(self.shape))

    def divergence(self, prior: HalfCauchyFactor) -> Float[Array, ""]:
        """Bound from above on the Kullback-Leibler divergence from the prior.

        It is the divergence with the mixing variable, at the latter's best distribution.
        """
        shape, rate = self.shape, self.rate
        own = jnp.log(rate) - gammaln(shape) + (shape - 1) * digamma(shape) - shape
        bound = -jnp.log(np.pi * prior.width) - self.mean_log / 2
        bound -= jnp.log(self.mean + prior.centre)
        return jnp.sum(own - bound)


class ScalePrior(eqx.Module):
    """Normal coefficients about means or zero, the precisions of that being half-Cauchy's.

    It is a prior only, which `as_posterior` gives the form of a posterior.
    """

    base: NormalCoefficients
    """Without what ties the contrasts; they are zero at its mean."""
    factors: tuple[HalfCauchyFactor, ...]
    """Widths (k, g), or (1, g) where clusters have them in common."""
    contrasts: Contrasts = eqx.field(static=True)

    @property
    def component_kinds(self) -> np.ndarray | None:
        """As for the coefficients."""
        return self.base.component_kinds

    @property
    def _shape(self) -> tuple[int, int]:
        return self.base.mean.shape[0], len(self.contrasts.places)

    def spread_out(self, values: Precisions) -> list[Array]:
        """Entries of every factor that contrasts (k, t) have."""
        return [self.contrasts.spread_out(own, i) for i, own in enumerate(values)]

    def _each(self, precisions: Precisions) -> Float[Array, "k t"]:
        """Precision of each contrast."""
        return jnp.broadcast_to(prod(self.spread_out(precisions)), self._shape)

    def given(self, precisions: Precisions) -> NormalCoefficients:
        """The coefficients' distribution given the precisions."""
        return self.base.tightened(self.contrasts.precision(self._each(precisions)))

    def _gamma(
        self, squares: Float[Array, "k t"], precisions: list[Array], i: int, rate: Array
    ) -> GammaFactor:
        """A factor's gamma distribution given all else, `rate` that of its prior."""
        shape = self.factors[i].width.shape
        others = self.spread_out(tuple(precisions))
        others[i] = jnp.ones(self._shape)
        weighted = self.contrasts.summed(prod(others) * squares, i, shape)
        count = self.contrasts.summed(jnp.ones(self._shape), i, shape)
        return GammaFactor((1 + count) / 2, rate + weighted / 2)

    def completed(self, normal: NormalCoefficients, precisions: Precisions) -> ScaledCoefficients:
        """The posterior with these coefficients, the factors being updated in turn."""
        squares = self.contrasts.squares(normal.moments())
        means, found = list(precisions), []
        for i, prior in enumerate(self.factors):
            found.append(self._gamma(squares, means, i, prior.tangent(means[i])))
            means[i] = found[i].mean
        return ScaledCoefficients(normal, tuple(found), self)

    def refreshed(
        self, values: Float[Array, "k d"], precisions: Precisions, key: PRNGKeyArray
    ) -> Coefficients:
        """A draw of means and precisions given coefficients, each factor in turn."""
        mean_key, *keys = jax.random.split(key, 1 + len(self.factors))
        values = self.given(precisions).refreshed(values, (), mean_key).values
        squares = self.contrasts.squares(Coefficients(values).moments())
        now, logs = list(precisions), []
        for i, (prior, own) in enumerate(zip(self.factors, keys, strict=True)):
            rate_key, factor_key = jax.random.split(own)
            rate = prior.sample_rate(rate_key, now[i])
            logs.append(self._gamma(squares, now, i, rate).sample(factor_key))
            now[i] = jnp.exp(logs[i])
        return Coefficients(values, tuple(logs))

    def as_posterior(self) -> ScaledCoefficients:
        """Coefficients given the centre of the precisions, and the precisions given these."""
        centres = tuple(prior.centre for prior in self.factors)
        return self.completed(self.given(centres), centres)

    def blended(self, new: ScaledCoefficients, rate: Float[Array, ""]) -> ScaledCoefficients:
        """Part of the way to a posterior."""
        return self.as_posterior().blended(new, rate)

    def mode(self) -> Coefficients:
        """The centre: in log scales the density is unbounded where contrasts vanish."""
        return Coefficients(self.base.mean, tuple(jnp.log(own.centre) for own in self.factors))

    def sample(self, key: PRNGKeyArray) -> Coefficients:
        """One draw."""
        normal_key, *keys = jax.random.split(key, 1 + len(self.factors))
        logs = tuple(prior.sample(own) for prior, own in zip(self.factors, keys, strict=True))
        normal = self.given(tuple(jnp.exp(own) for own in logs))
        return Coefficients(normal.sample(normal_key).values, logs)

    def _log_factors(self, parameters: Coefficients) -> Float[Array, ""]:
        pairs = zip(self.factors, parameters.log_precisions, strict=True)
        return sum((prior.log_density(own) for prior, own in pairs), jnp.zeros(()))

    def log_prob(self, parameters: Coefficients) -> Float[Array, ""]:
        """Log density of coefficients and of the logarithms of precisions."""
        normal = self.given(tuple(jnp.exp(own) for own in parameters.log_precisions))
        return normal.log_prob(parameters) + self._log_factors(parameters)

    def unnormalised_log_prob(self, parameters: Coefficients) -> Float[Array, ""]:
        """The same up to a constant, without a factorisation."""
        logs = jnp.broadcast_to(sum(self.spread_out(parameters.log_precisions)), self._shape)
        squares = self.contrasts.squares(parameters.moments())
        tied = 0.5 * jnp.sum(logs - jnp.exp(logs) * squares)
        return self.base.log_kernel(parameters) + tied + self._log_factors(parameters)

    def log_kernel(self, parameters: Coefficients) -> Float[Array, ""]:
        """The same: the parameters are unconstrained."""
        return self.unnormalised_log_prob(parameters)


class ScaledCoefficients(AbstractPosterior):
    """Independent distributions of coefficients and of the factors of their precisions."""

    normal: NormalCoefficients
    factors: tuple[GammaFactor, ...]
    prior: ScalePrior

    def _means(self) -> Precisions:
        return tuple(own.mean for own in self.factors)

    @property
    def component_kinds(self) -> np.ndarray | None:
        return self.normal.component_kinds

    def moments(self) -> CoefficientMoments:
        return self.normal.moments()._replace(precisions=self._means())

    def spread(self) -> CoefficientSpread:
        """Covariance of each cluster's coefficients."""
        return self.normal.spread()

    def blended(self, new: ScaledCoefficients, rate: Float[Array, ""]) -> ScaledCoefficients:
        """Part of the way to another distribution in the coefficients, the factors following.

        Factors that only went part of the way might lose where both would gain.
        """
        return self.prior.completed(self.normal.blended(new.normal, rate), self._means())

    def mode(self) -> Coefficients:
        return Coefficients(self.normal.mean, tuple(jnp.log(own) for own in self._means()))

    def sample(self, key: PRNGKeyArray) -> Coefficients:
        normal_key, *keys = jax.random.split(key, 1 + len(self.factors))
        logs = tuple(own.sample(one) for own, one in zip(self.factors, keys, strict=True))
        return Coefficients(self.normal.sample(normal_key).values, logs)

    def log_prob(self, parameters: Coefficients) -> Float[Array, ""]:
        pairs = zip(self.factors, parameters.log_precisions, strict=True)
        logs = sum((own.log_density(at) for own, at in pairs), jnp.zeros(()))
        return self.normal.log_prob(parameters) + logs

    def unnormalised_log_prob(self, parameters: Coefficients) -> Float[Array, ""]:
        return self.log_prob(parameters)

    def log_kernel(self, parameters: Coefficients) -> Float[Array, ""]:
        return self.log_prob(parameters)

    def coordinates(self) -> ScaledCoordinates:
        return ScaledCoordinates(
            self, tuple(log_gamma_location(own.shape, own.rate) for own in self.factors)
        )

    def kl(self, prior: ScalePrior) -> Float[Array, ""]:
        means = self._means()
        total = self.normal.kl(prior.given(means))
        # The log determinant is taken in expectation, not at the expected precisions.
        logs = tuple(jnp.log(own.mean) - own.mean_log for own in self.factors)
        shape = (self.normal.mean.shape[0], len(prior.contrasts.places))
        total += 0.5 * jnp.sum(jnp.broadcast_to(sum(prior.spread_out(logs)), shape))
        pairs = zip(self.factors, prior.factors, strict=True)
        return total + sum(own.divergence(other) for own, other in pairs)


class ScaledCoordinates(AbstractCoordinates):
    """Coordinates in which coefficients are standard normal given the precisions, at any of them.

    Those given other precisions than the expected ones follow from the normal distribution by
    taking out what the prior put in. So coefficients that the rows tell little about move with
    their scale, and others do not (Papaspiliopoulos, Roberts and Sköld 2007, Statistical Science
    22, on centred and other parametrisations).
    """

    centre: ScaledCoefficients
    logs: tuple[Location, ...]

    @property
    def size(self) -> int:
        normal = self.centre.normal.coordinates().size
        return normal + sum(one.middle.size for one in self.logs)

    def _normal_at(self, log_precisions: Precisions) -> NormalCoefficients:
        prior, normal = self.centre.prior, self.centre.normal
        now = prior._each(tuple(jnp.exp(own) for own in log_precisions))
        change = prior.contrasts.precision(now - prior._each(self.centre._means()))
        return normal.updated(change, jnp.zeros(normal.mean.shape))

    def constrain(self, z: Float[Array, " size"]) -> tuple[Coefficients, Float[Array, ""]]:
        sizes = [one.middle.size for one in self.logs]
        *pieces, rest = jnp.split(z, np.cumsum(sizes))
        pairs = list(zip(self.logs, pieces, strict=True))
        logs = tuple(one(own.reshape(one.middle.shape)) for one, own in pairs)
        found, log_det = self._normal_at(logs).coordinates().constrain(rest)
        total = log_det + sum(one.log_det for one in self.logs)
        return Coefficients(found.values, logs), total

    def unconstrain(self, parameters: Coefficients) -> Float[Array, " size"]:
        logs = parameters.log_precisions
        pairs = zip(self.logs, logs, strict=True)
        pieces = [one.inverse(own).ravel() for one, own in pairs]
        rest = self._normal_at(logs).coordinates().unconstrain(parameters)
        return jnp.concatenate([*pieces, rest])
