"""The families by name."""

from __future__ import annotations

from typing import Any

from clusterwise.core.errors import OptionError
from clusterwise.responses.binomial import Bernoulli, Binomial
from clusterwise.responses.family import AbstractFamily
from clusterwise.responses.gaussian import Gaussian
from clusterwise.responses.poisson import Poisson

FAMILIES: dict[str, type[AbstractFamily]] = {
    family.name: family for family in (Bernoulli, Binomial, Gaussian, Poisson)
}


def resolve_family(family: Any) -> AbstractFamily:
    """A family from its name, or as it was configured."""
    if isinstance(family, AbstractFamily):
        return family
    if not isinstance(family, str) or family not in FAMILIES:
        raise OptionError(
            f"family={family!r} is not known; use one of {', '.join(map(repr, FAMILIES))}, or a "
            "configured one such as cw.Gaussian(shared_sigma=True)."
        )
    return FAMILIES[family]()
