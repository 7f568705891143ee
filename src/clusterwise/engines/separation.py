"""Estimates at the boundary: the rows of a cluster alone leave their likelihood without a maximum.

A cluster whose zeros and ones a line separates, or whose counts are all zero, has coefficients
that would be infinite, were it not for the prior or the engine's tolerance (Albert and Anderson
1984, Biometrika 71). A sign that families share is a curvature that vanishes: where little is
known of some coefficients, Newton's method goes on without the prior, memberships as they are. If
it gains and the curvature goes, there is no maximum; if the curvature stays, the rows are few.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from clusterwise.core.block import AbstractBlock
from clusterwise.core.incomplete import Incomplete
from clusterwise.core.parts import AbstractSitedBlock
from clusterwise.core.product import Product
from clusterwise.core.rows import Rows
from clusterwise.core.runtime import Program, double_precision
from clusterwise.engines.problem import Problem
from clusterwise.engines.search import assign_rows
from clusterwise.posteriors.coefficients import Coefficients
from clusterwise.regression.generalised_linear import GeneralisedLinear

_SUSPECT = 3.0
_VANISHED = 1e-3
_STEPS = 40
_STRIDE = 2.0
_LEAST_ROWS = 1.0


@double_precision
def separated(problem: Problem, parameters: Any, free: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Clusters without a maximum, for each part of the model.

    Parameters
    ----------
    problem
        What the engine was given.
    parameters
        What it found.
    free
        For each block but the weights' the places of the coefficients that a cluster has for
        itself; none for a block that is exact.

    Returns
    -------
    list of numpy.ndarray
        For each block but the weights' (k,) of truth values.
    """
    block = problem.block
    assert isinstance(block, (Product, Incomplete))
    k = problem.n_components
    found = [np.zeros(k, bool) for _ in free]
    if not any(places.size for places in free):
        return found
    moments = _moments_program(parameters)
    totals, _ = assign_rows(block, moments, problem.source)
    # Those of weights that depend on the row come first.
    sited = iter(block.sited_statistics(totals.statistics)[int(block.gated) :])
    heavy = np.asarray(block.counts(totals.statistics)) >= _LEAST_ROWS
    for i, places in enumerate(free):
        one = block.blocks[i + 1]
        if not isinstance(one, AbstractSitedBlock):
            continue
        precision = np.asarray(next(sited).precision)
        if not places.size:
            continue
        own = precision[:, places[:, None], places[None, :]]
        suspect = heavy & (np.linalg.eigvalsh(own)[:, 0] < _SUSPECT)
        if suspect.any():
            rows = problem.sample.block(0).chunk(0)
            values = parameters.parts[i + 1].values
            assert isinstance(one, GeneralisedLinear)
            entering = block.entering(i + 1, rows)
            lost = _without_maximum(block, one, moments, rows, entering, values, places)
            found[i] = suspect & np.asarray(lost)
    return found


@Program
def _moments_program(parameters: Any) -> Any:
    return parameters.moments()


@Program
def _without_maximum(
    block: AbstractBlock,
    one: GeneralisedLinear,
    moments: Any,
    rows: Rows,
    entering: Float[Array, " rows"],
    start: Float[Array, "k d"],
    places: Array,
) -> Bool[Array, " k"]:
    """Whether the likelihood of each cluster's rows grows while its curvature vanishes."""
    resp = jax.nn.softmax(block.score(moments, rows), axis=0) * rows.weight * entering
    count = jnp.sum(resp, axis=1)
    gram = one.gram(rows.values, resp)[:, places[:, None], places[None, :]]
    # Coefficients in which the cluster's own rows have predictors of unit size.
    size = jnp.trace(gram, axis1=1, axis2=2)[:, None, None] * 1e-9 * jnp.eye(places.shape[0])
    root = jnp.linalg.inv(jnp.linalg.cholesky((gram + size) / count[:, None, None]))

    def at(values: Float[Array, "k d"]) -> tuple[Array, Array, Array]:
        found = one.statistics(Coefficients(values).moments(), rows.values, resp)
        slope = found.shift - jnp.einsum("kde,ke->kd", found.precision, values)
        own = found.precision[:, places[:, None], places[None, :]]
        return found.log_prob, jnp.einsum("kij,kj->ki", root, slope[:, places]), own

    def whitened(own: Array) -> Array:
        return root @ own @ jnp.swapaxes(root, 1, 2)

    def step(_: Any, values: Float[Array, "k d"]) -> Float[Array, "k d"]:
        _, slope, own = at(values)
        curvature, axes = jnp.linalg.eigh(whitened(own))
        along = jnp.einsum("kij,ki->kj", axes, slope) / jnp.maximum(curvature, 1e-12)
        length = jnp.linalg.norm(along, axis=1, keepdims=True)
        along = along * jnp.minimum(1.0, _STRIDE / jnp.maximum(length, 1e-12))
        move = jnp.einsum("kji,kj->ki", root, jnp.einsum("kij,kj->ki", axes, along))
        return values.at[:, places].add(move)

    before, _, _ = at(start)
    after, _, own = at(lax.fori_loop(0, _STEPS, step, start))
    vanished = jnp.linalg.eigvalsh(whitened(own))[:, 0] < _VANISHED
    return vanished & (after >= before - 1e-6 * count)
