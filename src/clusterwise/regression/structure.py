"""How clusters' coefficients go together, as a user writes it: independent, pooled, shrunk."""

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
    by how much a coefficient of one is more on the data's scale. `constants` are the places of
    dispersions that are free and not shared. `explicit` says whether a user gave their prior.
    """

    what: str
    mean: np.ndarray
    precision: np.ndarray
    shared: Shared
    known: tuple[int, ...]
    constants: tuple[int, ...]
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
    dispersion
        Whether to pool dispersions, too, such as log sigma; then with standard deviations that are
        learned.

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
    dispersion: bool = False
    name: ClassVar[str] = "hierarchical"

    def __post_init__(self) -> None:
        check_positive("Hierarchical", scale=self.scale)
        if self.sd is not None:
            given = list(self.sd.values()) if isinstance(self.sd, Mapping) else self.sd
            if isinstance(given, bool) or given == []:
                raise OptionError(
                    f"Hierarchical(sd={self.sd!r}) must be a number, a dictionary with one for "
                    "each term, or None to learn them."
                )
            check_positive("Hierarchical", sd=given)
            if self.dispersion:
                raise OptionError(
                    "Hierarchical(sd=..., dispersion=True): known standard deviations are of "
                    "coefficients; leave sd or dispersion out."
                )

    @property
    def learned(self) -> bool:
        return self.sd is None

    def prior(self, draft: Draft) -> NormalCoefficients | ScalePrior:
        own = (*draft.own, *draft.constants) if self.dispersion else draft.own
        if not own:
            raise OptionError(
                f"coefficients='hierarchical': {draft.what} has no coefficients that clusters do "
                "not share; leave coefficients out."
            )
        pooled = draft.places(tuple((place, ()) for place in own))
        base = NormalCoefficients.of_each(draft.mean, draft.precision, pooled).about_means(own)
        k, d = draft.mean.shape
        t = len(own)
        contrasts = Contrasts(d + t, own, (tuple(range(t)),), tuple(range(d, d + t)))
        known = self.deviations(draft.terms, draft.units)
        if known is None:
            return ScalePrior(base, (_widths((1, t), self.scale),), contrasts)
        each = np.broadcast_to(known**-2, (k, t))
        return base.tightened(contrasts.precision(constant(each)))

    def deviations(self, terms: tuple[str, ...], units: np.ndarray) -> np.ndarray | None:
        if self.sd is None:
            return None
        if not isinstance(self.sd, Mapping):
            return np.full(len(terms), self.sd) / units
        # It may name more: terms of other responses, and those that the rows do not identify.
        if any(term not in self.sd for term in terms):
            raise OptionError(
                f"Hierarchical(sd=...) must name the terms that are pooled, "
                f"{', '.join(map(repr, dict.fromkeys(terms)))}, and names "
                f"{', '.join(map(repr, self.sd))}."
            )
        return np.array([self.sd[term] for term in terms], float) / units


@dataclass(frozen=True)
class AbstractShrunk(AbstractCoefficients):
    """Coefficients that are normal about zero, with scales that are learned."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive(type(self).__name__, scale=self.scale)

    @property
    def learned(self) -> bool:
        return True


@dataclass(frozen=True)
class Ridge(AbstractShrunk):
    """Coefficients are shrunk to zero, in each cluster as much as its rows ask for.

    For cluster k and term j, b_kj ~ N(0, t_k^2) with half-Cauchy t_k, which are learned. Regressors
    are standardised, and t_k is in units of the response's standard deviation (one on the scale of
    a link) over a regressor's.

    Parameters
    ----------
    scale
        Median of the prior of every t_k.
    intercepts
        Whether intercepts are shrunk, too, by standard deviations of their own; otherwise they
        have their usual prior.

    References
    ----------
    Hoerl and Kennard (1970), Technometrics 12; Gelman (2006), Bayesian Analysis 1; Shahbaba and
    Neal (2009), Journal of Machine Learning Research 10, for clusters' own scales.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("y ~ x", coefficients=cw.Ridge(scale=0.5)).coefficients.scale
    0.5
    """

    intercepts: bool = False
    name: ClassVar[str] = "ridge"

    def prior(self, draft: Draft) -> ScalePrior:
        slopes = _slopes(draft, self.name)
        fixed = [place for place in draft.own if place in draft.intercepts]
        places = (*slopes, *fixed) if self.intercepts else slopes
        # Slopes have one scale in each cluster, intercepts another.
        columns = tuple(int(place in draft.intercepts) for place in places)
        k = len(draft.mean)
        return _about_zero(draft, places, (columns,), (_widths((k, 1 + max(columns)), self.scale),))


@dataclass(frozen=True)
class Horseshoe(AbstractShrunk):
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

    name: ClassVar[str] = "horseshoe"

    def prior(self, draft: Draft) -> ScalePrior:
        slopes = _slopes(draft, self.name)
        k, t = len(draft.mean), len(slopes)
        return _about_zero(
            draft,
            slopes,
            (tuple(range(t)), (0,) * t),
            (_widths((k, t), 1.0), _widths((k, 1), self.scale)),
        )


def _widths(shape: tuple[int, int], scale: float) -> HalfCauchyFactor:
    return HalfCauchyFactor(constant(np.full(shape, float(scale))))


def _slopes(draft: Draft, name: str) -> tuple[int, ...]:
    """Places of clusters' own slopes, of which no prior is given elsewhere."""
    slopes = tuple(place for place in draft.own if place not in draft.intercepts)
    if not slopes:
        raise OptionError(
            f"coefficients={name!r}: {draft.what} has no slopes that clusters do not share; leave "
            "coefficients out."
        )
    if draft.explicit:
        raise OptionError(
            f"coefficients={name!r} is a prior of the slopes of {draft.what}, and prior names "
            "another; leave one of them out."
        )
    return slopes


def _about_zero(
    draft: Draft,
    places: tuple[int, ...],
    columns: tuple[tuple[int, ...], ...],
    factors: tuple[HalfCauchyFactor, ...],
) -> ScalePrior:
    """The prior of coefficients at these places that are normal about zero."""
    at = list(places)
    mean, precision = draft.mean.copy(), draft.precision.copy()
    mean[:, at] = 0.0
    precision[at, :] = precision[:, at] = 0.0
    # As if they had precision one, which is taken out again.
    precision[at, at] = 1.0
    contrasts = Contrasts(mean.shape[1], places, columns)
    ones = constant(np.ones((len(mean), len(places))))
    base = NormalCoefficients.of_each(mean, precision, draft.places())
    return ScalePrior(base.tightened(-contrasts.precision(ones)), factors, contrasts)


COEFFICIENTS: dict[str, type[AbstractCoefficients]] = {
    kind.name: kind for kind in (Independent, Hierarchical, Ridge, Horseshoe)
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
