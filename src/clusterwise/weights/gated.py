"""Mixing weights that depend on covariates, as a user writes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma

from clusterwise.core.arrays import constant
from clusterwise.core.errors import OptionError
from clusterwise.posteriors.coefficients import NormalCoefficients
from clusterwise.posteriors.gates import SoftmaxPosterior, StickGatePosterior
from clusterwise.posteriors.places import Places
from clusterwise.posteriors.specification import check_positive
from clusterwise.weights.gating import SoftmaxGating, StickGating
from clusterwise.weights.specification import FLAT, AbstractGated, GateDesign

_EVEN = float(np.pi / np.sqrt(3))
"""Standard deviation of the log odds of two clusters under Dirichlet(1) weights."""


@dataclass(frozen=True)
class Gated(AbstractGated):
    """Mixing weights by a multinomial logit of covariates: a mixture of experts.

    The log odds of any two clusters are linear in the columns of the formula (concomitant
    variables; Dayton and Macready 1988, JASA 83; Jacobs, Jordan, Nowlan and Hinton 1991, Neural
    Computation 3). No cluster is a reference: the prior stays as it is when they are renumbered.

    Parameters
    ----------
    formula
        Right side of a formula, such as "w1 + w2"; "1" gives constant weights. Its columns are
        given, not modelled: they must not be among `covariates`.
    scale
        Prior standard deviation of the log odds of two clusters in an average row, and of their
        change by a standard deviation of a column; by default that of Dirichlet(1) weights, 1.8.
        The prior is normal and moves with any linear change of the columns. With prior="flat" it
        is not used.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> rng = np.random.default_rng(0)
    >>> x, w = rng.normal(size=(2, 400))
    >>> first = rng.random(400) < 1 / (1 + np.exp(-2 * w))
    >>> y = np.where(first, 3 * x, 1 - x) + 0.1 * rng.normal(size=400)
    >>> model = cw.Model("y ~ x", weights=cw.Gated("w"), prior="flat")
    >>> fit = model.fit({"x": x, "w": w, "y": y}, engine="em", random_state=0)
    >>> bool(abs(abs(fit.gates["w"][1]) - 2) < 0.5)
    True
    """

    formula: str
    scale: float = _EVEN

    def __post_init__(self) -> None:
        _check(self)
        check_positive("Gated", scale=self.scale)

    @property
    def truncated(self) -> bool:
        return False

    def block(self, columns: tuple[int, ...], unit: int = 0) -> SoftmaxGating:
        return SoftmaxGating(columns, unit)

    def prior(
        self, n_components: int, flat: bool, design: GateDesign | None = None
    ) -> SoftmaxPosterior:
        gram, free = (design or GateDesign.constant()).gram, n_components - 1
        p = len(gram)
        # The log odds of two clusters are the square root of two times a contrast.
        precision = np.kron(np.eye(free), gram * (FLAT if flat else 2 / self.scale**2))
        return SoftmaxPosterior(_normal(np.zeros((1, free * p)), precision[None]), p)


@dataclass(frozen=True)
class LogitStickBreaking(AbstractGated):
    """Mixing weights by logit stick-breaking, truncated at `n_components` clusters.

    Each cluster takes a share of what those before it left, whose log odds are linear in the
    columns of the formula. With constant weights it is close to a Dirichlet process: the log odds
    of a share have the prior mean and variance that they have there.

    Parameters
    ----------
    formula
        As for `Gated`.
    concentration
        Of that Dirichlet process: larger for more clusters.

    References
    ----------
    Ren, Du, Carin and Dunson (2011), JMLR 12; Rigon and Durante (2021), Journal of Statistical
    Planning and Inference 211.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.LogitStickBreaking("w", concentration=2.0).formula
    'w'
    """

    formula: str
    concentration: float = 1.0

    def __post_init__(self) -> None:
        _check(self)
        check_positive("LogitStickBreaking", concentration=self.concentration)

    @property
    def truncated(self) -> bool:
        return True

    def block(self, columns: tuple[int, ...], unit: int = 0) -> StickGating:
        return StickGating(columns, unit)

    def prior(
        self, n_components: int, flat: bool, design: GateDesign | None = None
    ) -> StickGatePosterior:
        design = design or GateDesign.constant()
        variance = polygamma(1, 1.0) + polygamma(1, self.concentration)
        middle = digamma(1.0) - digamma(self.concentration)
        mean = np.tile(middle * design.constant_predictor, (n_components - 1, 1))
        precision = np.tile(design.gram / variance, (n_components - 1, 1, 1))
        return StickGatePosterior(_normal(mean, precision))


def _normal(mean: np.ndarray, precision: np.ndarray) -> NormalCoefficients:
    """Independent normal distributions of means (k, d) and precisions (k, d, d)."""
    border = np.zeros((*mean.shape, 0))
    none = constant(border), constant(np.zeros((0, 0)))
    return NormalCoefficients(constant(mean), constant(precision), *none, Places.of(*mean.shape))


def _check(weights: Gated | LogitStickBreaking) -> None:
    if not isinstance(weights.formula, str) or not weights.formula.strip():
        raise OptionError(
            f"{type(weights).__name__}({weights.formula!r}): give the right side of a formula, "
            "such as 'w1 + w2'."
        )
