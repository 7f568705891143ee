"""How clusters' coefficients go together, as a user writes it: independent, pooled, or sparse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from clusterwise.core.arrays import constant
from clusterwise.core.errors import OptionError
from clusterwise.posteriors.coefficients import NormalCoefficients
from clusterwise.posteriors.places import Places
from clusterwise.posteriors.scales import Contrasts, HalfCauchyFactor, ScalePrior
from clusterwise.posteriors.specification import check_positive

Groups = tuple[int, ...]
Shared = tuple[tuple[int, Groups], ...]
"""Pairs of a place and the group of each cluster there; no groups: all clusters are one."""


class Draft(NamedTuple):
    """What is known of a prior before clusters' own coefficients are tied to one another.

    `mean` (k, d) and `precision` (d, d) are of each cluster's coefficients were they independent,
    `own` the places of its own coefficients of regressors, `terms` and `units` their names, and
    by how much a coefficient of one is more on the data's scale. `explicit` says whether a user
    gave their prior.
    """

    what: str
    mean: np.ndarray
    precision: np.ndarray
    shared: Shared
    known: tuple[int, ...]
    own: tuple[int, ...]
    intercepts: tuple[int, ...]
    terms: tuple[str, ...]
    units: np.ndarray
    explicit: bool

    def places(self, more: Shared = ()) -> Places:
        """Which coefficients are shared, these too, and which are known."""
        k, d = self.mean.shape
        return Places.of(k, d, (*self.shared, *more), self.known)


class AbstractCoefficients(ABC):
    """The prior of what clusters do not share among their coefficients."""

    name: ClassVar[str]

    @property
    def learned(self) -> bool:
        """Whether its scale is learned, so that its density with the coefficients has no mode."""
        return False

    def deviations(self, terms: tuple[str, ...], units: np.ndarray) -> np.ndarray | None:
        """Standard deviations (t,) about means, in standard units, where they are known."""
        return None

    @abstractmethod
    def prior(self, draft: Draft) -> NormalCoefficients | ScalePrior:
        """In standard units."""


@dataclass(frozen=True)
class Independent(AbstractCoefficients):
    """Every cluster has its own coefficients."""

    name: ClassVar[str] = "independent"

    def prior(self, draft: Draft) -> NormalCoefficients:
        return NormalCoefficients.of_each(draft.mean, draft.precision, draft.places())


@dataclass(frozen=True)
class Hierarchical(AbstractCoefficients):
    """Coefficients of a term are normal about a mean, so that clusters borrow from one another.

    For cluster k and term j, b_kj ~ N(m_j, s_j^2). The means have the prior that coefficients
    have otherwise, the standard deviations half-Cauchy ones (Gelman 2006): their width is in units
    of the response's standard deviation (one on the scale of a link) over the regressor's. The
    intercept is pooled where the regressors are at their means.

    Parameters
    ----------
    scale
        Median of the prior of every standard deviation.
    sd
        The standard deviations where they are known, on the data's own scale: a number, or one by
        term; None to learn them.

    References
    ----------
    Gelman (2006), Bayesian Analysis 1; Wand, Ormerod, Padoan and Frühwirth (2011), Bayesian
    Analysis 6.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("y ~ x", coefficients=cw.Hierarchical(scale=0.5)).coefficients.scale
    0.5
    """

    scale: float = 1.0
    sd: float | Mapping[str, float] | None = None
    name: ClassVar[str] = "hierarchical"

    def __post_init__(self) -> None:
        check_positive("Hierarchical", scale=self.scale)
        if self.sd is not None:
            given = list(self.sd.values()) if isinstance(self.sd, Mapping) else self.sd
            check_positive("Hierarchical", sd=given)

    @property
    def learned(self) -> bool:
        return self.sd is None

    def prior(self, draft: Draft) -> NormalCoefficients | ScalePrior:
        own = draft.own
        if not own:
            raise OptionError(
                f"coefficients='hierarchical': {draft.what} has no coefficients that clusters do "
                "not share; leave coefficients out."
            )
        pooled = draft.places(tuple((place, ()) for place in own))
        base = NormalCoefficients.of_each(draft.mean, draft.precision, pooled).about_means(own)
        k, d = draft.mean.shape
        contrasts = Contrasts(d + len(own), own, tuple(range(d, d + len(own))))
        known = self.deviations(draft.terms, draft.units)
        if known is None:
            width = HalfCauchyFactor(constant(np.full((1, len(own)), float(self.scale))))
            return ScalePrior(base, (width,), contrasts)
        each = np.broadcast_to(known**-2, (k, len(own)))
        return base.tightened(contrasts.precision(constant(each)))

    def deviations(self, terms: tuple[str, ...], units: np.ndarray) -> np.ndarray | None:
        if self.sd is None:
            return None
        if not isinstance(self.sd, Mapping):
            return np.full(len(terms), self.sd) / units
        missing = [term for term in terms if term not in self.sd]
        unknown = [term for term in self.sd if term not in terms]
        if missing or unknown:
            raise OptionError(
                f"Hierarchical(sd=...) must name the terms that are pooled, "
                f"{', '.join(map(repr, dict.fromkeys(terms)))}, and names "
                f"{', '.join(map(repr, self.sd))}."
            )
        return np.array([self.sd[term] for term in terms], float) / units


@dataclass(frozen=True)
class Horseshoe(AbstractCoefficients):
    """Coefficients are zero but for few, the horseshoe of Carvalho, Polson and Scott (2010).

    For cluster k and term j, b_kj ~ N(0, (t_k l_kj)^2) with half-Cauchy t_k and l_kj: each cluster
    has its own number of effects that matter. The intercept has its usual prior. Regressors are
    standardised, and t_k is in units of the response's standard deviation (one on the scale of a
    link) over a regressor's.

    Parameters
    ----------
    scale
        Width of the half-Cauchy prior of t_k; smaller where fewer effects are expected.

    References
    ----------
    Carvalho, Polson and Scott (2010), Biometrika 97; Makalic and Schmidt (2016), IEEE Signal
    Processing Letters 23; Piironen and Vehtari (2017), Electronic Journal of Statistics 11, on the
    scale.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("y ~ x", coefficients=cw.Horseshoe(scale=0.1)).coefficients.scale
    0.1
    """

    scale: float = 1.0
    name: ClassVar[str] = "horseshoe"

    def __post_init__(self) -> None:
        check_positive("Horseshoe", scale=self.scale)

    @property
    def learned(self) -> bool:
        return True

    def prior(self, draft: Draft) -> ScalePrior:
        shrunk = tuple(place for place in draft.own if place not in draft.intercepts)
        if not shrunk:
            raise OptionError(
                f"coefficients='horseshoe': {draft.what} has no slopes that clusters do not "
                "share; leave coefficients out."
            )
        if draft.explicit:
            raise OptionError(
                f"coefficients='horseshoe' is a prior of the slopes of {draft.what}, and prior "
                "names another; leave one of them out."
            )
        k, d = draft.mean.shape
        at = list(shrunk)
        mean, precision = draft.mean.copy(), draft.precision.copy()
        mean[:, at] = 0.0
        precision[at, :] = precision[:, at] = 0.0
        # As if they had precision one, which is taken out again.
        precision[at, at] = 1.0
        contrasts = Contrasts(d, shrunk)
        ones = constant(np.ones((k, len(shrunk))))
        base = NormalCoefficients.of_each(mean, precision, draft.places())
        return ScalePrior(
            base.tightened(-contrasts.precision(ones)),
            (
                HalfCauchyFactor(ones),
                HalfCauchyFactor(constant(np.full((k, 1), float(self.scale)))),
            ),
            contrasts,
        )


COEFFICIENTS: dict[str, type[AbstractCoefficients]] = {
    kind.name: kind for kind in (Independent, Hierarchical, Horseshoe)
}


INDEPENDENT = Independent()


class Structure(NamedTuple):
    """How coefficients of a response go together: regressors shared by clusters, and the others."""

    shared: Shared = ()
    coefficients: AbstractCoefficients = INDEPENDENT
    terms: tuple[str, ...] = ()
    """Of the regressors."""


PLAIN = Structure()


def resolve_coefficients(coefficients: Any) -> AbstractCoefficients:
    """The prior from its name, or as it was configured."""
    if isinstance(coefficients, AbstractCoefficients):
        return coefficients
    if not isinstance(coefficients, str) or coefficients not in COEFFICIENTS:
        raise OptionError(
            f"coefficients={coefficients!r} is not known; use one of "
            f"{', '.join(map(repr, COEFFICIENTS))}, or a configured one such as "
            "cw.Hierarchical(scale=0.5)."
        )
    return COEFFICIENTS[coefficients]()
