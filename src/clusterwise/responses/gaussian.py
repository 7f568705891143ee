"""Gaussian response as a user writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clusterwise.core.errors import OptionError
from clusterwise.posteriors.matrix_normal import MatrixNormal
from clusterwise.posteriors.specification import check_positive
from clusterwise.regression.prior import LinearFrame, LinearOptions, linear_prior


@dataclass(frozen=True)
class Gaussian:
    """Gaussian response with coefficients of each cluster.

    Parameters
    ----------
    sigma
        Residual standard deviation where it is known; None to estimate it.
    shared_sigma
        Whether all clusters have the same residual standard deviation.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Gaussian(shared_sigma=True).sigma is None
    True
    """

    sigma: float | None = None
    shared_sigma: bool = False

    def __post_init__(self) -> None:
        if self.sigma is not None:
            check_positive("Gaussian", sigma=self.sigma)

    def prior(self, what: str, frame: LinearFrame, prior: Any) -> MatrixNormal:
        """Prior of the response's block, in standard units."""
        known = None if self.sigma is None else self.sigma**2
        return linear_prior(frame, LinearOptions(what, "full", self.shared_sigma, known), prior)

    def n_dispersion(self, n_components: int) -> int:
        """Number of free dispersion parameters."""
        if self.sigma is not None:
            return 0
        return 1 if self.shared_sigma else n_components


FAMILIES: dict[str, type[Gaussian]] = {"gaussian": Gaussian}


def resolve_family(family: Any) -> Gaussian:
    """A family from its name, or as it was configured."""
    if isinstance(family, Gaussian):
        return family
    if family not in FAMILIES:
        raise OptionError(
            f"family={family!r} is not supported; this version has "
            f"{', '.join(map(repr, FAMILIES))} (or cw.Gaussian(...))."
        )
    return FAMILIES[family]()
