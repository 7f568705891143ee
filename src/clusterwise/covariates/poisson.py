"""Poisson density of covariates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from clusterwise.core.arrays import constant
from clusterwise.core.errors import OptionError
from clusterwise.core.parts import AbstractLinearBlock
from clusterwise.covariates.density import AbstractColumnDensity, AbstractDensity
from clusterwise.posteriors.rates import RateMoments, RatePosterior
from clusterwise.posteriors.specification import Gamma
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.prior import LinearFrame
from clusterwise.regression.structure import PLAIN, Structure
from clusterwise.responses.generalised import check_counts

_COUNTS = 0.5
_FLAT = 1e-9


class RateCounts(AbstractLinearBlock):
    """A count, linear in the constant, itself and its log factorial."""

    columns: tuple[int, ...] = eqx.field(static=True)

    def linear(self, moments: RateMoments) -> Float[Array, "k columns"]:
        base = jnp.full_like(moments.rate, -1.0)
        return jnp.stack([-moments.rate, moments.log_rate, base], axis=1)

    def posterior(
        self, sums: Float[Array, "k columns"], prior: RatePosterior, moments: RateMoments
    ) -> RatePosterior:
        return prior.updated(sums[:, 0], sums[:, 1])


@dataclass(frozen=True)
class PoissonCovariates(AbstractColumnDensity):
    """Counts, Poisson and independent of one another in each cluster.

    Parameters
    ----------
    formula
        Columns of counts, as a formula's right side: "visits + children".
    rate
        Gamma prior of each cluster's rate; by default of shape 0.5 about the mean of all rows. With
        prior="flat" it is not used.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.PoissonCovariates("visits", rate=cw.Gamma(2, 1)).parameter_names
    ('rate',)
    """

    formula: str
    rate: Gamma | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not isinstance(self.rate, Gamma):
            raise OptionError(
                f"PoissonCovariates(rate={self.rate!r}) must be cw.Gamma(shape, rate), or None."
            )

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return ("rate",)

    @property
    def prior_hint(self) -> str:
        return "cw.PoissonCovariates(..., rate=cw.Gamma(...))"

    def block(self, columns: PartColumns) -> RateCounts:
        return RateCounts((0, *columns.responses))

    def prior(
        self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN
    ) -> RatePosterior:
        mean = 1.0
        if frame.sample is not None:
            mean = max(float(frame.sample.total[0]), 0.5) / frame.sample.size
        shape = _FLAT if prior == "flat" else _COUNTS
        given = Gamma(shape, shape / mean)
        if self.rate is not None and prior != "flat":
            given = self.rate
        k = frame.n_components
        return RatePosterior(constant(np.full(k, given.shape)), constant(np.full(k, given.rate)))

    def n_predictors(self, n_responses: int) -> int:
        return 1

    def n_dispersion(self, n_components: int, n_columns: int) -> int:
        return 0

    def over(self, terms: tuple[str, ...]) -> list[AbstractDensity]:
        return [self.with_formula(f"0 + {term} + log_factorial({term})") for term in terms]

    def outcomes(self, names: tuple[str, ...], values: Any) -> dict[str, np.ndarray]:
        return {names[0]: np.exp(np.asarray(values.log_rates))}

    def check(self, what: str, columns: np.ndarray, at: np.ndarray) -> None:
        check_counts(what, columns[:, :1], at)

    def parameters(self, values: Any, shift: float, scale: float) -> dict[str, np.ndarray]:
        return {"rate": np.exp(np.asarray(values.log_rates))}

    def distribution(self, parameters: Mapping[str, np.ndarray]) -> Any:
        from scipy import stats

        return stats.poisson(parameters["rate"])
