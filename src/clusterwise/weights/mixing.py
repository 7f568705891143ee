"""Block of mixing weights that do not depend on the row."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from clusterwise.core.product import AbstractQuadraticBlock, Quadratic
from clusterwise.posteriors.dirichlet import WeightMoments


class MixingWeights(AbstractQuadraticBlock):
    """One weight per cluster; its prior, Dirichlet or stick-breaking, adds the counts."""

    columns: tuple[int, ...] = eqx.field(static=True, default=())

    def quadratic(self, moments: WeightMoments) -> Quadratic:
        return Quadratic(moments.log_weights, jnp.zeros((moments.log_weights.shape[0], 0, 0)))

    def posterior(
        self,
        count: Float[Array, " k"],
        gram: Float[Array, "k c c"],
        prior: Any,
        moments: WeightMoments,
    ) -> Any:
        return prior.updated(count, moments)
