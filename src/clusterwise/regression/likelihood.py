"""Log likelihoods of a response given a few linear predictors, and their expansions.

Every response that is not Gaussian is one function of its linear predictors: that of its mean,
and of what else it has, such as a log dispersion. Expectation-maximisation, variational inference
and both samplers see it by its second-order expansion: gradient and curvature at a point, or their
expectations under normal predictors, which are the derivatives of the expected log likelihood
(Bonnet 1964; Price 1958; Khan and Lin 2017, AISTATS).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from itertools import product
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Observed = Float[Array, "columns rows"]
Predictors = Float[Array, "m k rows"]

_NODES = {1: 16, 2: 7}
"""Nodes of a quadrature rule in each dimension; of more dimensions a rule of degree five."""


class Expansion(NamedTuple):
    """Log likelihood, its gradient and its negative second derivatives, by predictor."""

    value: Float[Array, "k rows"]
    gradient: Float[Array, "m k rows"]
    curvature: Float[Array, "m m k rows"]


class AbstractLikelihood(ABC):
    """Log p(y | predictors); one file a family, in `clusterwise.responses`."""

    concave: ClassVar[bool] = True
    """Whether the log likelihood is concave in the predictors, whatever the response."""
    apart: ClassVar[bool] = False
    """Whether posteriors leave out how predictors depend on each other, being concave in each."""

    @abstractmethod
    def log_prob(self, observed: Observed, predictors: Predictors) -> Float[Array, "k rows"]:
        """Log density or probability of each row under each cluster."""

    def expansion(self, observed: Observed, predictors: Predictors) -> Expansion:
        """Expansion at a point; by automatic differentiation unless a family knows better."""

        def total(at: Predictors) -> tuple[Float[Array, ""], Float[Array, "k rows"]]:
            value = self.log_prob(observed, at)
            return jnp.sum(value), value

        slope = jax.grad(total, has_aux=True)

        def along(one: Array) -> tuple[Any, Any]:
            tangent = jnp.broadcast_to(one[:, None, None], predictors.shape)
            return jax.jvp(slope, (predictors,), (tangent,))

        # Rows do not interact, so that one direction serves all of them.
        columns = [along(one) for one in jnp.eye(predictors.shape[0])]
        gradient, value = columns[0][0]
        curvature = jnp.stack([-tangent[0] for _, tangent in columns])
        return Expansion(value, gradient, curvature)

    def expected(
        self, observed: Observed, mean: Predictors, covariance: Float[Array, "m m k rows"]
    ) -> Expansion:
        """Expected expansion under normal predictors; by quadrature unless there is a formula."""
        root = _cholesky(covariance)
        nodes, weights = quadrature(mean.shape[0])

        def node(total: Expansion, at: tuple[Array, Array]) -> tuple[Expansion, None]:
            point, weight = at
            moved = mean + jnp.einsum("abkr,b->akr", root, point)
            here = self.expansion(observed, moved)
            return jax.tree.map(lambda a, b: a + weight * b, total, here), None

        shapes = jax.eval_shape(self.expansion, observed, mean)
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return jax.lax.scan(node, zero, (jnp.asarray(nodes), jnp.asarray(weights)))[0]


@cache
def quadrature(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (n, dimension) and weights (n,) for expectations under a standard normal.

    Gauss and Hermite's rule in one and two dimensions, and in more a rule that is exact for
    polynomials of degree five (Stroud 1971, Approximate Calculation of Multiple Integrals).
    """
    if dimension in _NODES:
        points, weights = np.polynomial.hermite_e.hermegauss(_NODES[dimension])
        weights = weights / weights.sum()
        grid = np.array(list(product(points, repeat=dimension)))
        return grid, np.array([np.prod(own) for own in product(weights, repeat=dimension)])
    n = dimension
    axis = np.sqrt(n + 2) * np.concatenate([np.eye(n), -np.eye(n)])
    signs = np.array(list(product((1, -1), repeat=2)))
    pairs = [(i, j) for i in range(n) for j in range(i)]
    diagonal = np.zeros((len(pairs) * 4, n))
    for place, (i, j) in enumerate(pairs):
        diagonal[4 * place : 4 * place + 4, [i, j]] = np.sqrt((n + 2) / 2) * signs
    nodes = np.concatenate([np.zeros((1, n)), axis, diagonal])
    weights = np.concatenate(
        [
            [2 / (n + 2)],
            np.full(2 * n, (4 - n) / (2 * (n + 2) ** 2)),
            np.full(len(diagonal), 1 / (n + 2) ** 2),
        ]
    )
    return nodes, weights


def _cholesky(covariance: Float[Array, "m m k rows"]) -> Float[Array, "m m k rows"]:
    """Lower factor of small matrices, an entry of all rows at a time."""
    m = covariance.shape[0]
    zero = jnp.zeros(covariance.shape[2:])
    rows: list[list[Array]] = [[zero] * m for _ in range(m)]
    for i in range(m):
        for j in range(i + 1):
            rest = covariance[i, j] - sum((rows[i][p] * rows[j][p] for p in range(j)), zero)
            if i == j:
                rows[i][i] = jnp.sqrt(jnp.maximum(rest, 0.0))
            else:
                rows[i][j] = jnp.where(rows[j][j] > 0, rest / jnp.maximum(rows[j][j], 1e-300), 0.0)
    return jnp.stack([jnp.stack(row) for row in rows])
