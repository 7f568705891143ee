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
    # The prior is in the rows' program, to compile one, and counts with the first block.
    gradient, matrix = source.sum_numbered(
        lambda part, rows: _curvature(
            block, prior, coordinates, at, rows, np.asarray(float(part == 0))
        )
    )
    return Information(coordinates, np.asarray(at), gradient, matrix)


@Program
def _coordinates(
    block: AbstractBlock, prior: Any, statistics: Statistics, parameters: Any
) -> tuple[AbstractCoordinates, Float[Array, " d"]]:
    posterior = block.posterior(statistics, prior, parameters.moments())
    coordinates = posterior.coordinates()
    return coordinates, coordinates.unconstrain(parameters)


@Program
def _curvature(
    block: AbstractBlock,
    prior: Any,
    coordinates: AbstractCoordinates,
    at: Float[Array, " d"],
    rows: RowBlock,
    share: Float[Array, ""],
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Gradient and negative second derivatives of rows and a share of the prior."""

    def value(z: Float[Array, " d"]) -> Float[Array, ""]:
        parameters = coordinates.constrain(z)[0]
        of_rows = marginal_log_density(block, parameters.moments(), rows)
        return of_rows + share * prior.log_kernel(parameters)

    def column(one: Float[Array, " d"]) -> tuple[Array, Array]:
        return jax.jvp(jax.grad(value), (at,), (one,))

    d = at.size
    # Columns that are left over would be compiled anew.
    together = min(_COLUMNS_AT_A_TIME, d)
    wanted = jnp.eye(-(-d // together) * together, d)
    gradients, columns = lax.map(column, wanted, batch_size=together)
    return gradients[0], -columns[:d]


@Program
def constrained(coordinates: AbstractCoordinates, points: Float[Array, "n d"]) -> Any:
    """Parameters at some coordinates, with a leading axis."""
    return jax.vmap(lambda z: coordinates.constrain(z)[0])(points)
