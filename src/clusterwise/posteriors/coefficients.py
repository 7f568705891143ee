"""Normal coefficients of every cluster, some of which all or some clusters share.

Given the shared coefficients those of the clusters are independent, so that the joint precision
is an arrow: a block for each cluster, one for what they share, and the borders between. It is
factorised cluster by cluster, and by its Schur complement for the rest (Golub and Van Loan 2013,
Matrix Computations, section 4.4).
"""

from __future__ import annotations

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.arrays import constant
from clusterwise.core.block import AbstractCoordinates, AbstractParameters, AbstractPosterior
from clusterwise.posteriors.linalg import log_det, solve, whitening
from clusterwise.posteriors.matrix_normal import CoefficientSpread
from clusterwise.posteriors.places import Places

Precisions = tuple[Float[Array, "..."], ...]
"""Of the prior, where they are learned; see `posteriors.scales`."""


class CoefficientMoments(NamedTuple):
    """Mean of the coefficients, and a factor of their covariance in each cluster."""

    values: Float[Array, "k d"]
    spread: Float[Array, "k m d"]
    """W with W^T W the covariance; without rows at a point."""
    precisions: Precisions = ()


class Coefficients(AbstractParameters):
    """Coefficients of each cluster; those that are shared are there once for each."""

    values: Float[Array, "k d"]
    log_precisions: Precisions = ()

    def moments(self) -> CoefficientMoments:
        k, d = self.values.shape
        precisions = tuple(jnp.exp(own) for own in self.log_precisions)
        return CoefficientMoments(self.values, jnp.zeros((k, 0, d)), precisions)

    def mean_of_draws(self) -> Coefficients:
        # The standard deviations are averaged, as they are what is reported.
        deviations = [jnp.exp(-own / 2).mean(axis=(0, 1)) for own in self.log_precisions]
        precisions = tuple(-2 * jnp.log(own) for own in deviations)
        return Coefficients(self.values.mean(axis=(0, 1)), precisions)


class _Factors(NamedTuple):
    """Roots of the covariance: of a cluster's own coefficients given the shared, and of these.

    `slope` is by how much a cluster's own coefficients fall with the shared ones.
    """

    own: Float[Array, "k o o"]
    shared: Float[Array, "s s"]
    slope: Float[Array, "k o s"]


class NormalCoefficients(AbstractPosterior):
    """Joint normal distribution of all clusters' coefficients.

    `mean` holds the shared coefficients once for each cluster that has them. The precision is of a
    cluster's own coefficients, between these and the shared ones, and of the shared ones.
    """

    mean: Float[Array, "k d"]
    own: Float[Array, "k o o"]
    border: Float[Array, "k o s"]
    shared: Float[Array, "s s"]
    places: Places = eqx.field(static=True)

    @classmethod
    def of_each(
        cls, mean: Float[np.ndarray, "k d"], precision: Float[np.ndarray, "d d"], places: Places
    ) -> Self:
        """The prior under which every cluster's coefficients have a given normal distribution.

        What clusters share has its marginal distribution, once, and what they do not is
        independent between them given that.

        Parameters
        ----------
        mean, precision
            Of a cluster's coefficients; where coefficients are shared the means are the same.
        places
            Which are shared, by whom, and which are known and stay at their mean.
        """
        own, shared, pick = places.own, places.shared_places, places.selection
        between = precision[np.ix_(own, shared)]
        inner = precision[np.ix_(own, own)]
        explained = between.T @ np.linalg.solve(inner, between)
        common = places.spread_out(precision[np.ix_(shared, shared)] - explained)
        k = mean.shape[0]
        return cls(
            constant(mean),
            constant(np.broadcast_to(inner, (k, *inner.shape))),
            constant(between @ pick),
            constant(common + (np.swapaxes(pick, 1, 2) @ explained @ pick).sum(axis=0)),
            places,
        )

    def about_means(self, pooled: tuple[int, ...]) -> Self:
        """Clusters' own coefficients at these places, the shared ones there being their means.

        The means move to new places behind all others. The precision of the coefficients about
        them is zero as yet.
        """
        d = self.mean.shape[1]
        places = self.places.with_means(pooled)
        at = np.searchsorted(places.own, self.places.own)
        k, o, s = self.mean.shape[0], places.own.size, places.n_shared
        own = np.zeros((k, o, o))
        own[:, at[:, None], at[None, :]] = self.own
        border = np.zeros((k, o, s))
        border[:, at] = self.border
        mean = np.asarray(self.mean)
        wide = np.concatenate([mean, mean[:, list(pooled)]], axis=1)
        assert wide.shape[1] == d + len(pooled)
        return type(self)(constant(wide), constant(own), constant(border), self.shared, places)

    @property
    def is_joint(self) -> bool:
        """Whether clusters share any coefficients."""
        return self.places.n_shared > 0

    @property
    def n_free(self) -> int:
        """Number of coefficients that are free together: a cluster's own, and the shared ones."""
        return self.places.own.size + self.places.n_shared

    @property
    def component_kinds(self) -> np.ndarray | None:
        return self.places.kinds

    def _joined(self, own: Float[Array, "k o"], shared: Float[Array, " s"]) -> Float[Array, "k d"]:
        """Deviations of each cluster's coefficients from their two kinds; none of known ones."""
        k = own.shape[0]
        found = jnp.zeros((k, self.mean.shape[1])).at[:, self.places.own].set(own)
        return found.at[:, self.places.shared_places].set(self.places.selection @ shared)

    def _parted(self, values: Float[Array, "k d"]) -> tuple[Array, Array]:
        return values[:, self.places.own], values[self.places.first]

    def _factors(self) -> _Factors:
        root = whitening(self.own)
        slope = jnp.swapaxes(root, 1, 2) @ (root @ self.border)
        if not self.is_joint:
            return _Factors(root, jnp.zeros((0, 0)), slope)
        schur = self.shared - jnp.einsum("kos,kot->st", self.border, slope)
        return _Factors(root, whitening(schur[None])[0], slope)

    def tightened(self, precision: Float[Array, "k d d"]) -> Self:
        """The distribution with more precision about the same mean."""
        own, shared, pick = self.places.own, self.places.shared_places, self.places.selection
        between = precision[:, shared[:, None], shared[None, :]]
        return type(self)(
            self.mean,
            self.own + precision[:, own[:, None], own[None, :]],
            self.border + precision[:, own[:, None], shared[None, :]] @ pick,
            self.shared + (np.swapaxes(pick, 1, 2) @ between @ pick).sum(axis=0),
            self.places,
        )

    def updated(self, precision: Float[Array, "k e e"], shift: Float[Array, "k e"]) -> Self:
        """Posterior after a quadratic log likelihood `shift^T b - b^T precision b / 2`.

        It may be of the first e coefficients only.
        """
        e = shift.shape[1]
        rest = self.mean.shape[1] - e
        pull = shift - jnp.einsum("kde,ke->kd", precision, self.mean[:, :e])
        pull = jnp.pad(pull, ((0, 0), (0, rest)))
        after = self.tightened(jnp.pad(precision, ((0, 0), (0, rest), (0, rest))))
        right = jnp.concatenate([pull[:, self.places.own, None], after.border], axis=2)
        solved = solve(after.own, right)
        alone, slope = solved[:, :, 0], solved[:, :, 1:]
        if self.is_joint:
            schur = after.shared - jnp.einsum("kos,kot->st", after.border, slope)
            pulled = pull[:, self.places.shared_places]
            left = jnp.einsum("kis,ki->s", self.places.selection, pulled)
            left -= jnp.einsum("kos,ko->s", after.border, alone)
            common = solve(schur[None], left[None, :, None])[0, :, 0]
        else:
            common = jnp.zeros(0)
        moved = self.mean + self._joined(alone - slope @ common, common)
        return type(self)(moved, after.own, after.border, after.shared, self.places)

    def about(self, values: Float[Array, "k d"], scale: float) -> Self:
        """The same distribution about other values, all deviations multiplied by a number."""
        square = scale**2
        inner, border, shared = self.own / square, self.border / square, self.shared / square
        return type(self)(values, inner, border, shared, self.places)

    def given(self, precisions: Precisions) -> Self:
        """The prior given its precisions, of which this one has none to learn."""
        return self

    def completed(self, normal: NormalCoefficients, precisions: Precisions) -> NormalCoefficients:
        """The posterior, that of the coefficients being given."""
        return normal

    def refreshed(
        self, values: Float[Array, "k d"], precisions: Precisions, key: PRNGKeyArray
    ) -> Coefficients:
        """A draw of what is left given the coefficients of rows: means of them, where there are."""
        if not self.places.means:
            return Coefficients(values)
        return self.shared_given(values, self.places.means).sample(key)

    def own_given(self, values: Float[Array, "k d"]) -> Self:
        """Distribution of clusters' own coefficients given the shared ones: they are independent.

        Parameters
        ----------
        values
            Of which the shared are used.
        """
        if not self.is_joint:
            return self
        _, gap = self._parted(values - self.mean)
        moved = self.mean[:, self.places.own] - self._factors().slope @ gap
        mean = values.at[:, self.places.own].set(moved)
        k, o, _ = self.border.shape
        none = jnp.zeros((k, o, 0)), jnp.zeros((0, 0))
        return type(self)(mean, self.own, *none, self.places.with_free_own())

    def shared_given(self, values: Float[Array, "k d"], free: tuple[int, ...]) -> Self:
        """Distribution of some of the shared coefficients given all others.

        Parameters
        ----------
        values
            Of all coefficients.
        free
            Places of those that are not given.
        """
        places = self.places.with_free_shared(free)
        at = np.flatnonzero(np.isin(self.places.first[1], free))
        rest = np.setdiff1d(np.arange(self.places.n_shared), at)
        own, shared = self._parted(values - self.mean)
        pull = jnp.einsum("kos,ko->s", self.border[:, :, at], own)
        pull += self.shared[at[:, None], rest[None, :]] @ shared[rest]
        precision = self.shared[at[:, None], at[None, :]]
        moved = (
            self.mean[self.places.first][at] - solve(precision[None], pull[None, :, None])[0, :, 0]
        )
        mean = values.at[:, places.shared_places].set(places.selection @ moved)
        k = values.shape[0]
        none = jnp.zeros((k, 0, 0)), jnp.zeros((k, 0, at.size))
        return type(self)(mean, *none, precision, places)

    def blended(self, new: Self, rate: Float[Array, ""]) -> Self:
        """Part of the way to another distribution, in mean and precision."""
        return jax.tree.map(lambda a, b: a + rate * (b - a), self, new)

    def moments(self) -> CoefficientMoments:
        k, d = self.mean.shape
        root, common, slope = self._factors()
        given = jnp.zeros((k, root.shape[1], d)).at[:, :, self.places.own].set(root)
        rest = jnp.zeros((k, common.shape[0], d))
        rest = rest.at[:, :, self.places.own].set(-jnp.einsum("ts,kos->kto", common, slope))
        pick = np.swapaxes(self.places.selection, 1, 2)
        rest = rest.at[:, :, self.places.shared_places].set(common @ pick)
        return CoefficientMoments(self.mean, jnp.concatenate([given, rest], axis=1))

    def spread(self) -> CoefficientSpread:
        """Covariance of each cluster's coefficients."""
        root = self.moments().spread
        k = root.shape[0]
        return CoefficientSpread(jnp.swapaxes(root, 1, 2) @ root, jnp.ones((k, 1, 1)))

    def mode(self) -> Coefficients:
        return Coefficients(self.mean)

    def sample(self, key: PRNGKeyArray) -> Coefficients:
        own_key, shared_key = jax.random.split(key)
        k, o, s = self.border.shape
        noise = jax.random.normal(own_key, (k, o)), jax.random.normal(shared_key, (s,))
        return Coefficients(self._placed(self._factors(), *noise))

    def _placed(self, factors: _Factors, own: Array, shared: Array) -> Float[Array, "k d"]:
        """Coefficients at standard normal deviations."""
        common = factors.shared.T @ shared
        given = jnp.einsum("kpo,kp->ko", factors.own, own) - factors.slope @ common
        return self.mean + self._joined(given, common)

    def log_prob(self, parameters: Coefficients) -> Float[Array, ""]:
        k, o, s = self.border.shape
        normaliser = self._log_det() - (k * o + s) * jnp.log(2 * jnp.pi)
        return 0.5 * normaliser + self.log_kernel(parameters)

    def _log_det(self) -> Float[Array, ""]:
        total = jnp.sum(log_det(self.own))
        if self.is_joint:
            total -= 2 * jnp.sum(jnp.log(jnp.diagonal(self._factors().shared)))
        return total

    def log_prob_by_cluster(self, parameters: Coefficients) -> Float[Array, " k"]:
        """Log density of each cluster's coefficients; where some are shared its part of the whole.

        An equal part, so that the sum over clusters is the log density.
        """
        k, o, _ = self.border.shape
        if self.is_joint:
            return jnp.broadcast_to(self.log_prob(parameters) / k, (k,))
        deviation, _ = self._parted(parameters.values - self.mean)
        square = jnp.einsum("ko,kop,kp->k", deviation, self.own, deviation)
        return 0.5 * (log_det(self.own) - o * jnp.log(2 * jnp.pi) - square)

    def unnormalised_log_prob(self, parameters: Coefficients) -> Float[Array, ""]:
        return self.log_kernel(parameters)

    def log_kernel(self, parameters: Coefficients) -> Float[Array, ""]:
        own, shared = self._parted(parameters.values - self.mean)
        return -0.5 * (
            jnp.einsum("ko,kop,kp->", own, self.own, own)
            + 2 * jnp.einsum("ko,kos,s->", own, self.border, shared)
            + shared @ self.shared @ shared
        )

    def coordinates(self) -> NormalCoordinates:
        return NormalCoordinates(self, self._factors())

    def kl(self, prior: Self) -> Float[Array, ""]:
        k, o, s = self.border.shape
        root, common, slope = self._factors()
        # Covariance of the shared coefficients, and what it adds to that of the others.
        covariance = common.T @ common
        trace = jnp.einsum("kpo,koq,kpq->", root, prior.own, root)
        trace += jnp.einsum("kos,st,kpt,kop->", slope, covariance, slope, prior.own)
        trace -= 2 * jnp.einsum("kos,st,kot->", prior.border, covariance, slope)
        trace += jnp.sum(prior.shared * covariance)
        distance = -2 * prior.log_kernel(Coefficients(self.mean))
        return 0.5 * (trace - (k * o + s) + self._log_det() - prior._log_det() + distance)


class NormalCoordinates(AbstractCoordinates):
    """Coordinates in which a normal distribution of coefficients is standard."""

    centre: NormalCoefficients
    factors: _Factors

    @property
    def size(self) -> int:
        k, o, s = self.centre.border.shape
        return k * o + s

    def constrain(self, z: Float[Array, " size"]) -> tuple[Coefficients, Float[Array, ""]]:
        k, o, _ = self.centre.border.shape
        own, shared = z[: k * o].reshape(k, o), z[k * o :]
        scale = jnp.sum(jnp.log(jnp.diagonal(self.factors.own, axis1=1, axis2=2)))
        scale += jnp.sum(jnp.log(jnp.diagonal(self.factors.shared)))
        return Coefficients(self.centre._placed(self.factors, own, shared)), scale

    def unconstrain(self, parameters: Coefficients) -> Float[Array, " size"]:
        own, shared = self.centre._parted(parameters.values - self.centre.mean)
        own = own + self.factors.slope @ shared
        transposed = jnp.swapaxes(self.factors.own, 1, 2)
        standard = jnp.linalg.solve(transposed, own[:, :, None])[:, :, 0]
        if not self.centre.is_joint:
            return standard.ravel()
        common = jnp.linalg.solve(self.factors.shared.T, shared)
        return jnp.concatenate([standard.ravel(), common])
