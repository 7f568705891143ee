"""Mixing weights as a user writes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from clusterwise.core.arrays import constant
from clusterwise.core.errors import OptionError
from clusterwise.posteriors.dirichlet import DirichletPosterior
from clusterwise.posteriors.known_weights import KnownWeightsPosterior
from clusterwise.posteriors.specification import Gamma, Numbers, check_positive
from clusterwise.posteriors.stick_breaking import ConcentrationPrior, StickBreakingPosterior
from clusterwise.weights.mixing import MixingWeights

FLAT = 1e-9
"""Pseudo-observations of the weights under prior="flat"."""
_VAGUEST = 0.5
_SHARPEST = 100.0
_SUM = 1e-6
_DEFAULT_CONCENTRATION = Gamma(1.0, 1.0)


class GateDesign(NamedTuple):
    """Columns that weights depend on: averages over rows of their products (p, p), and of them."""

    gram: np.ndarray
    average: np.ndarray

    @classmethod
    def constant(cls) -> GateDesign:
        """Of weights that are the same for all rows."""
        return cls(np.ones((1, 1)), np.ones(1))

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.average.size

    @property
    def constant_predictor(self) -> np.ndarray:
        """Coefficients (p,) of the predictor that is closest to one in all rows."""
        return np.linalg.solve(self.gram, self.average)


class AbstractWeights(ABC):
    """A prior on mixing weights."""

    @property
    @abstractmethod
    def gating(self) -> str | None:
        """Right side of the formula of what weights depend on; None where they are constant."""

    @property
    @abstractmethod
    def truncated(self) -> bool:
        """Whether the number of clusters is a truncation, no claim that so many exist."""

    @abstractmethod
    def block(self, columns: tuple[int, ...], unit: int = 0) -> Any:
        """The block of weights that depend on some columns of a row, and count by `unit`."""

    @abstractmethod
    def prior(self, n_components: int, flat: bool, design: GateDesign | None = None) -> Any:
        """The prior as a posterior before any row, in standard units.

        `design` is of the columns that weights depend on; by default of a constant.
        """

    @abstractmethod
    def n_parameters(self, n_components: int) -> int:
        """How many of the weights are free, for each column that they depend on."""


class AbstractConstant(AbstractWeights):
    """Weights that are the same for all rows."""

    @property
    def gating(self) -> None:
        return None

    def block(self, columns: tuple[int, ...], unit: int = 0) -> MixingWeights:
        return MixingWeights((unit,))


class AbstractGated(AbstractWeights):
    """Weights that depend on columns of a row, by one predictor fewer than there are clusters."""

    formula: str

    @property
    def gating(self) -> str:
        return self.formula

    def n_parameters(self, n_components: int) -> int:
        return n_components - 1


@dataclass(frozen=True)
class Dirichlet(AbstractConstant):
    """Dirichlet prior on the weights of a fixed number of clusters.

    Parameters
    ----------
    concentration
        Number or one number a cluster; 1 is uniform over the simplex. With prior="flat" it is
        not used.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Dirichlet(0.5).concentration
    0.5
    """

    concentration: Numbers = 1.0

    def __post_init__(self) -> None:
        check_positive("Dirichlet", concentration=self.concentration)
        if np.asarray(self.concentration).ndim != 0:
            raise OptionError(
                "Dirichlet(concentration=...) must be one number: clusters have no order before "
                "the fit, so they share it."
            )

    @property
    def truncated(self) -> bool:
        return False

    def prior(
        self, n_components: int, flat: bool, design: GateDesign | None = None
    ) -> DirichletPosterior:
        value = FLAT if flat else float(np.asarray(self.concentration))
        return DirichletPosterior(constant(np.full(n_components, value)))

    def n_parameters(self, n_components: int) -> int:
        return n_components - 1


@dataclass(frozen=True)
class PitmanYor(AbstractConstant):
    """Pitman-Yor process by stick-breaking, truncated at `n_components` clusters.

    Parameters
    ----------
    discount
        In [0, 1); zero is the Dirichlet process.
    concentration
        Positive number, or a `Gamma` prior with which it is learned, of shape 0.5 to 100.

    References
    ----------
    Ishwaran and James (2001), JASA 96.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.PitmanYor(discount=0.25, concentration=cw.Gamma(1, 1)).discount
    0.25
    """

    discount: float = 0.25
    concentration: float | Gamma = _DEFAULT_CONCENTRATION

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise OptionError(f"PitmanYor(discount={self.discount!r}) must lie in [0, 1).")
        _check_concentration("PitmanYor", self.concentration)

    @property
    def truncated(self) -> bool:
        return True

    def prior(
        self, n_components: int, flat: bool, design: GateDesign | None = None
    ) -> StickBreakingPosterior:
        return _stick_breaking(n_components, self.discount, self.concentration)

    def n_parameters(self, n_components: int) -> int:
        return n_components - 1


@dataclass(frozen=True)
class DirichletProcess(AbstractConstant):
    """Dirichlet process by stick-breaking, truncated at `n_components` clusters.

    Parameters
    ----------
    concentration
        Positive number, or a `Gamma` prior with which it is learned, of shape 0.5 to 100.

    References
    ----------
    Sethuraman (1994), Statistica Sinica 4; Blei and Jordan (2006), Bayesian Analysis 1.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.DirichletProcess(concentration=1.0).concentration
    1.0
    """

    concentration: float | Gamma = _DEFAULT_CONCENTRATION

    def __post_init__(self) -> None:
        _check_concentration("DirichletProcess", self.concentration)

    @property
    def truncated(self) -> bool:
        return True

    def prior(
        self, n_components: int, flat: bool, design: GateDesign | None = None
    ) -> StickBreakingPosterior:
        return _stick_breaking(n_components, 0.0, self.concentration)

    def n_parameters(self, n_components: int) -> int:
        return n_components - 1


@dataclass(frozen=True)
class KnownWeights(AbstractConstant):
    """Weights that are given, not estimated.

    Components are numbered by weight, the largest first, so that `weights` are sorted. Where
    weights differ the numbers of the components mean something: draws are not relabelled across
    them, and a fit with the clusters the other way round is an optimum of its own.

    Parameters
    ----------
    weights
        A positive number for each component, summing to one.

    Raises
    ------
    OptionError
        Where they are not positive, do not sum to one within 1e-6, or are not `n_components`.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> weights = cw.KnownWeights((0.3, 0.7))
    >>> weights.weights
    (0.7, 0.3)
    >>> x = np.random.default_rng(0).normal(np.repeat([-3, 3], [60, 140]))
    >>> model = cw.Model(covariates="x", weights=weights)
    >>> model.fit({"x": x}, engine="em", random_state=0).means["x"].round().tolist()
    [3.0, -3.0]
    """

    weights: Sequence[float]

    def __post_init__(self) -> None:
        check_positive("KnownWeights", weights=self.weights)
        given = np.asarray(self.weights, float)
        if given.ndim != 1 or not abs(given.sum() - 1) <= _SUM:
            raise OptionError(
                f"KnownWeights(weights={self.weights!r}) must be a sequence of numbers that sum to "
                "one, a weight for each component."
            )
        # Frozen; the numbers of components follow from the weights.
        object.__setattr__(self, "weights", tuple(np.sort(given)[::-1].tolist()))

    @property
    def truncated(self) -> bool:
        return False

    def prior(
        self, n_components: int, flat: bool, design: GateDesign | None = None
    ) -> KnownWeightsPosterior:
        weights = np.asarray(self.weights)
        return KnownWeightsPosterior(constant(np.log(weights / weights.sum())))

    def n_parameters(self, n_components: int) -> int:
        return 0


WEIGHTS: dict[str, type[AbstractWeights]] = {
    "dirichlet": Dirichlet,
    "dirichlet_process": DirichletProcess,
    "pitman_yor": PitmanYor,
}


def resolve_weights(weights: str | AbstractWeights, n_components: int) -> AbstractWeights:
    """Weights from their name, or as they were configured for so many components."""
    if isinstance(weights, KnownWeights) and len(weights.weights) != n_components:
        raise OptionError(
            f"weights={weights!r} are {len(weights.weights)} weights for "
            f"n_components={n_components}; give one for each component."
        )
    if isinstance(weights, AbstractWeights):
        return weights
    if weights not in WEIGHTS:
        raise OptionError(
            f"weights={weights!r} is not known; use one of {', '.join(map(repr, WEIGHTS))} or "
            "configured ones such as cw.Dirichlet(0.5)."
        )
    return WEIGHTS[weights]()


def _check_concentration(owner: str, concentration: float | Gamma) -> None:
    if not isinstance(concentration, Gamma):
        check_positive(owner, concentration=concentration)
    elif not _VAGUEST <= concentration.shape <= _SHARPEST:
        raise OptionError(
            f"{owner}(concentration=Gamma(shape={concentration.shape!r}, ...)): the shape must lie "
            f"between {_VAGUEST} and {_SHARPEST}, where the concentration's density can be "
            "computed; give a number where it is known better than that."
        )


def _stick_breaking(
    n_components: int, discount: float, concentration: float | Gamma
) -> StickBreakingPosterior:
    known = not isinstance(concentration, Gamma)
    prior = Gamma(concentration, 1.0) if not isinstance(concentration, Gamma) else concentration
    return StickBreakingPosterior(
        constant(np.zeros(n_components)),
        constant(float(discount)),
        ConcentrationPrior(constant(float(prior.shape)), constant(float(prior.rate)), known),
        constant(prior.shape / prior.rate),
    )
