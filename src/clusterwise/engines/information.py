"""The observed information: the curvature of what EM maximises, where EM ended.

The gradient of the log likelihood follows from one pass over the rows (Fisher's identity; see
`marginal`), so that its derivative along each coordinate is that of a pass: exact, in forward
mode, which loops over any number of chunks admit. Louis (1982) and Oakes (1999) give the same
matrix from moments of the complete data's score.

Coordinates are those in which the posterior given the memberships is close to standard normal.
There an eigenvalue of the information is the share that is left of the complete data's, one minus
a rate of EM's convergence, and zero where rows say nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from clusterwise.core.block import AbstractBlock, AbstractCoordinates, Statistics
from clusterwise.core.rows import RowBlock
from clusterwise.core.runtime import Program
from clusterwise.engines.marginal import marginal_log_density
from clusterwise.engines.search import assign_rows
from clusterwise.sources.source import Source

_COLUMNS_AT_A_TIME = 8


class Information(NamedTuple):
    """Gradient and negative second derivatives of the log likelihood plus the log prior kernel.

    At the coordinates `at` (d,) of the parameters.
    """

    coordinates: AbstractCoordinates
    at: np.ndarray
    gradient: np.ndarray
    matrix: np.ndarray


def observed_information(
    block: AbstractBlock, prior: Any, proper: Any, source: Source, parameters: Any
) -> Information:
    """Observed information of all rows.

    Parameters
    ----------
    block, prior
        The model and the prior that EM had.
    proper
        A prior that is worth something: under it the coordinates have a scale where rows give
        none.
    source
        All rows.
    parameters
        Where EM ended.
    """
    moments = parameters.moments()
    totals, _ = assign_rows(block, moments, source)
    coordinates, at = _coordinates(block, proper, totals.statistics, parameters)
    gradient, matrix = source.sum(lambda rows: _of_rows(block, coordinates, at, rows))
    of_prior = jax.tree.map(np.asarray, _of_prior(prior, coordinates, at))
    return Information(coordinates, np.asarray(at), gradient + of_prior[0], matrix + of_prior[1])


@Program
def _coordinates(
    block: AbstractBlock, prior: Any, statistics: Statistics, parameters: Any
) -> tuple[AbstractCoordinates, Float[Array, " d"]]:
    posterior = block.posterior(statistics, prior, parameters.moments())
    coordinates = posterior.coordinates()
    return coordinates, coordinates.unconstrain(parameters)


def _curvature(function: Any, at: Float[Array, " d"]) -> tuple[Array, Array]:
    """Gradient and negative second derivatives, some columns at a time."""
    slope = jax.grad(function)

    def column(one: Float[Array, " d"]) -> Float[Array, " d"]:
        return -jax.jvp(slope, (at,), (one,))[1]

    columns = lax.map(column, jnp.eye(at.size), batch_size=min(_COLUMNS_AT_A_TIME, at.size))
    return slope(at), columns


@Program
def _of_rows(
    block: AbstractBlock, coordinates: AbstractCoordinates, at: Float[Array, " d"], rows: RowBlock
) -> tuple[Array, Array]:
    def value(z: Float[Array, " d"]) -> Float[Array, ""]:
        return marginal_log_density(block, coordinates.constrain(z)[0].moments(), rows)

    return _curvature(value, at)


@Program
def _of_prior(
    prior: Any, coordinates: AbstractCoordinates, at: Float[Array, " d"]
) -> tuple[Array, Array]:
    return _curvature(lambda z: prior.log_kernel(coordinates.constrain(z)[0]), at)


@Program
def constrained(coordinates: AbstractCoordinates, points: Float[Array, "n d"]) -> Any:
    """Parameters at some coordinates, with a leading axis."""
    return jax.vmap(lambda z: coordinates.constrain(z)[0])(points)
