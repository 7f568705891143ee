"""Block of mixing weights that do not depend on the row."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from clusterwise.core.parts import AbstractLinearBlock
from clusterwise.posteriors.dirichlet import WeightMoments


class MixingWeights(AbstractLinearBlock):
    """One weight per cluster; its prior, Dirichlet or stick-breaking, adds the counts.

    Its column is one in every row that counts: the constant.
    """

    columns: tuple[int, ...] = eqx.field(static=True, default=(0,))

    def linear(self, moments: WeightMoments) -> Float[Array, "k columns"]:
        return moments.log_weights[:, None]

    def posterior(self, sums: Float[Array, "k columns"], prior: Any, moments: WeightMoments) -> Any:
        return prior.updated(sums[:, 0], moments)
