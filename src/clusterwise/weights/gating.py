"""Blocks of mixing weights that depend on columns of the row."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from clusterwise.core.parts import AbstractGatingBlock
from clusterwise.posteriors.dirichlet import contrasts
from clusterwise.posteriors.gates import (
    AbstractGatePosterior,
    SoftmaxGates,
    SoftmaxMoments,
    SoftmaxPosterior,
    StickGatePosterior,
    StickGates,
    StickMoments,
    paths,
)
from clusterwise.regression.likelihood import quadrature
from clusterwise.regression.logistic import (
    TILTS,
    Stick,
    Tilted,
    expected_logistic,
    expected_softmax,
)


class SoftmaxStatistics(NamedTuple):
    """Sums over the rows of each cluster.

    The log weight of a row in cluster c is its predictor there less a normaliser, whose expansion
    in the free coefficients b is `b^T precision b / 2 - slope^T b` up to a constant.
    """

    counts: Float[Array, " k"]
    sums: Float[Array, "k p"]
    """Of the columns."""
    log_weights: Float[Array, "k l"]
    """Of the log weights of each cluster."""
    slope: Float[Array, "k d"]
    precision: Float[Array, "k d d"]


class SoftmaxGating(AbstractGatingBlock):
    """Multinomial logit weights: log weights are linear in the columns, up to a constant.

    At a point and in expectation alike the expansion is that of a softmax: its probabilities take
    the expected ones' place (`expected_softmax`), so that its curvature is never negative.
    """

    gating: tuple[int, ...] = eqx.field(static=True)
    unit: int = eqx.field(static=True, default=0)

    def _expected(
        self, moments: SoftmaxMoments, values: Float[Array, "columns rows"]
    ) -> tuple[Float[Array, "k rows"], Tilted]:
        design = values[np.asarray(self.gating)]
        mean = moments.values @ design
        return mean, expected_softmax(mean, _deviations(moments.spread, design))

    def log_weights_of(
        self, moments: SoftmaxMoments, values: Float[Array, "columns rows"]
    ) -> Float[Array, "k rows"]:
        mean, tilted = self._expected(moments, values)
        return mean - tilted.normaliser

    def as_numbers(self, moments: SoftmaxMoments) -> dict[str, Any]:
        return _numbers("softmax_gates", self, moments, tilts=TILTS)

    def statistics(
        self,
        moments: SoftmaxMoments,
        values: Float[Array, "columns rows"],
        resp: Float[Array, "k rows"],
    ) -> SoftmaxStatistics:
        resp = resp * values[self.unit]
        mean, (normaliser, probability) = self._expected(moments, values)
        design, basis = values[np.asarray(self.gating)], contrasts(mean.shape[0])
        (k, free), (p, n) = basis.shape, design.shape
        inner = basis.T @ probability
        curvature = jnp.einsum("ka,kb,kr->abr", basis, basis, probability)
        curvature = (curvature - inner[:, None] * inner[None, :]).reshape(free * free, n)
        weighted = (resp[:, None, :] * curvature).reshape(k * free * free, n)
        squares = (design[:, None, :] * design[None, :, :]).reshape(p * p, n)
        precision = (weighted @ squares.T).reshape(k, free, free, p, p)
        precision = precision.transpose(0, 1, 3, 2, 4).reshape(k, free * p, free * p)
        expected = (resp[:, None, :] * inner).reshape(k * free, n) @ design.T
        at = (basis.T @ moments.values).ravel()
        return SoftmaxStatistics(
            jnp.sum(resp, axis=1),
            resp @ design.T,
            resp @ (mean - normaliser).T,
            precision @ at - expected.reshape(k, free * p),
            precision,
        )

    def cross_score(
        self, moments: SoftmaxMoments, statistics: SoftmaxStatistics
    ) -> Float[Array, "k l"]:
        free = (contrasts(moments.values.shape[0]).T @ moments.values).ravel()
        normaliser = 0.5 * statistics.precision @ free - statistics.slope
        return statistics.sums @ moments.values.T - (normaliser @ free)[:, None]

    def posterior(
        self, statistics: SoftmaxStatistics, prior: SoftmaxPosterior, moments: SoftmaxMoments
    ) -> SoftmaxPosterior:
        basis = contrasts(statistics.sums.shape[0])
        shift = (basis.T @ statistics.sums).ravel() + statistics.slope.sum(axis=0)
        precision = statistics.precision.sum(axis=0)
        return prior.with_normal(prior.normal.updated(precision[None], shift[None]))

    def counts(self, statistics: SoftmaxStatistics) -> Float[Array, " k"]:
        return statistics.counts

    def blend(
        self, old: SoftmaxPosterior, new: SoftmaxPosterior, rate: Float[Array, ""]
    ) -> SoftmaxPosterior:
        return old.blended(new, rate)

    def log_prob(self, statistics: SoftmaxStatistics) -> Float[Array, " k"]:
        return jnp.diagonal(statistics.log_weights)

    def log_weights(self, statistics: SoftmaxStatistics) -> Float[Array, "k l"]:
        return statistics.log_weights

    def corrected(
        self,
        prior: SoftmaxPosterior,
        now: SoftmaxGates,
        proposed: SoftmaxGates,
        statistics: tuple[SoftmaxStatistics, SoftmaxStatistics],
        key: PRNGKeyArray,
    ) -> SoftmaxGates:
        """Test a draw of all coefficients together (Gamerman 1997)."""
        forward, back = _proposals(self, prior, now, proposed, statistics)
        accepted = _accepted(
            [jnp.sum(self.log_prob(own)) for own in statistics],
            [prior.log_prob(now), prior.log_prob(proposed)],
            forward.log_prob(proposed),
            back.log_prob(now),
            key,
        )
        values = jnp.where(accepted, proposed.values, now.values)
        return SoftmaxGates(values, proposed.log_weights)


class StickStatistics(NamedTuple):
    """Sums over the rows of each cluster, for every stick whether they come to it or not.

    The expansion of the log of a stick in its coefficients b is
    `constant + slope^T b - b^T precision b / 2`; that of the log of what it leaves is less by the
    predictor. `log_taken` and `log_left` are these logs where they were counted.
    """

    counts: Float[Array, " k"]
    sums: Float[Array, "k p"]
    log_taken: Float[Array, "k s"]
    log_left: Float[Array, "k s"]
    constant: Float[Array, "k s"]
    slope: Float[Array, "k s p"]
    precision: Float[Array, "k s p p"]


class StickGating(AbstractGatingBlock):
    """Logit stick-breaking weights: a logistic regression for each stick, of the rows left over.

    In Gibbs sampling, clusters may change sticks only by trading them: statistics hold every
    stick's for every cluster.
    """

    gating: tuple[int, ...] = eqx.field(static=True)
    unit: int = eqx.field(static=True, default=0)

    def _sticks(self, moments: StickMoments, values: Float[Array, "columns rows"]) -> Stick:
        design = values[np.asarray(self.gating)]
        return expected_logistic(moments.values @ design, _deviations(moments.spread, design))

    def log_weights_of(
        self, moments: StickMoments, values: Float[Array, "columns rows"]
    ) -> Float[Array, "k rows"]:
        log_taken, log_left, _, _ = self._sticks(moments, values)
        return _taken(moments.path) @ log_taken + _left(moments.path) @ log_left

    def as_numbers(self, moments: StickMoments) -> dict[str, Any]:
        nodes, weights = (np.ravel(one) for one in quadrature(1))
        path = np.asarray(moments.path)
        return _numbers("stick_gates", self, moments, path=path, nodes=nodes, node_weights=weights)

    def statistics(
        self,
        moments: StickMoments,
        values: Float[Array, "columns rows"],
        resp: Float[Array, "k rows"],
    ) -> StickStatistics:
        resp = resp * values[self.unit]
        log_taken, log_left, probability, curvature = self._sticks(moments, values)
        design = values[np.asarray(self.gating)]
        (k, s), (p, n) = moments.path.shape, design.shape
        squares = (design[:, None, :] * design[None, :, :]).reshape(p * p, n)
        weighted = (resp[:, None, :] * curvature).reshape(k * s, n)
        precision = (weighted @ squares.T).reshape(k, s, p, p)
        gradient = (resp[:, None, :] * (1 - probability)).reshape(k * s, n) @ design.T
        gradient, at = gradient.reshape(k, s, p), moments.values
        slope = gradient + jnp.einsum("kspq,sq->ksp", precision, at)
        taken = resp @ log_taken.T
        return StickStatistics(
            jnp.sum(resp, axis=1),
            resp @ design.T,
            taken,
            resp @ log_left.T,
            taken - 0.5 * jnp.einsum("ksp,sp->ks", gradient + slope, at),
            slope,
            precision,
        )

    def cross_score(
        self, moments: StickMoments, statistics: StickStatistics
    ) -> Float[Array, "k l"]:
        _, _, _, _, constant, slope, precision = statistics
        half = slope - 0.5 * jnp.einsum("kspq,sq->ksp", precision, moments.values)
        taken = constant + jnp.einsum("ksp,sp->ks", half, moments.values)
        left = taken - statistics.sums @ moments.values.T
        return taken @ _taken(moments.path).T + left @ _left(moments.path).T

    def posterior(
        self, statistics: StickStatistics, prior: StickGatePosterior, moments: StickMoments
    ) -> StickGatePosterior:
        path = paths(statistics.sums.shape[0])
        reached, left = np.abs(path), _left(path)
        precision = jnp.einsum("ks,kspq->spq", reached, statistics.precision)
        shift = jnp.einsum("ks,ksp->sp", reached, statistics.slope) - left.T @ statistics.sums
        return prior.with_normal(prior.normal.updated(precision, shift))

    def counts(self, statistics: StickStatistics) -> Float[Array, " k"]:
        return statistics.counts

    def blend(
        self, old: StickGatePosterior, new: StickGatePosterior, rate: Float[Array, ""]
    ) -> StickGatePosterior:
        return old.blended(new, rate)

    def log_prob(self, statistics: StickStatistics) -> Float[Array, " k"]:
        return jnp.diagonal(self.log_weights(statistics))

    def log_weights(self, statistics: StickStatistics) -> Float[Array, "k l"]:
        path = paths(statistics.sums.shape[0])
        return statistics.log_taken @ _taken(path).T + statistics.log_left @ _left(path).T

    def corrected(
        self,
        prior: StickGatePosterior,
        now: StickGates,
        proposed: StickGates,
        statistics: tuple[StickStatistics, StickStatistics],
        key: PRNGKeyArray,
    ) -> StickGates:
        """Test a draw of each stick's coefficients on its own (Gamerman 1997)."""
        path = paths(statistics[0].sums.shape[0])
        forward, back = _proposals(self, prior, now, proposed, statistics)
        free = prior.free(now), prior.free(proposed)
        accepted = _accepted(
            [
                jnp.sum(_taken(path) * own.log_taken + _left(path) * own.log_left, axis=0)
                for own in statistics
            ],
            [prior.normal.log_prob_by_cluster(own) for own in free],
            forward.normal.log_prob_by_cluster(free[1]),
            back.normal.log_prob_by_cluster(free[0]),
            key,
        )
        values = jnp.where(accepted[:, None], proposed.values, now.values)
        return StickGates(proposed.path, values, proposed.log_weights)


def _taken(path: Any) -> Any:
    return path.clip(0)


def _left(path: Any) -> Any:
    return (-path).clip(0)


def _numbers(
    kind: str, block: AbstractGatingBlock, moments: SoftmaxMoments | StickMoments, **rest: Any
) -> dict[str, Any]:
    values, spread = np.asarray(moments.values), np.asarray(moments.spread)
    return {
        "kind": kind, "columns": list(block.gating), "unit": block.unit,
        "values": values, "spread": spread, **rest,
    }  # fmt: skip


def _deviations(
    spread: Float[Array, "k m p"], design: Float[Array, "p rows"]
) -> Float[Array, "k m rows"]:
    k, m, p = spread.shape
    return (spread.reshape(k * m, p) @ design).reshape(k, m, design.shape[1])


def _proposals(
    block: Any,
    prior: AbstractGatePosterior,
    now: Any,
    proposed: Any,
    statistics: tuple[Any, Any],
) -> tuple[Any, Any]:
    """Distributions that a proposal came from, and that leads back from it."""
    return (
        block.posterior(statistics[0], prior, now.moments()),
        block.posterior(statistics[1], prior, proposed.moments()),
    )


def _accepted(
    likelihood: list[Array], prior: list[Array], forward: Array, back: Array, key: PRNGKeyArray
) -> Array:
    log_ratio = likelihood[1] + prior[1] - likelihood[0] - prior[0] + back - forward
    return jnp.log(jax.random.uniform(key, log_ratio.shape)) < log_ratio
