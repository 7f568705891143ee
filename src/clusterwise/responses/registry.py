"""The families by name."""

from __future__ import annotations

from typing import Any

from clusterwise.core.errors import OptionError
from clusterwise.responses.binomial import Bernoulli, Binomial
from clusterwise.responses.categorical import Categorical
from clusterwise.responses.family import AbstractFamily
from clusterwise.responses.gamma import GammaResponse
from clusterwise.responses.gaussian import Gaussian
from clusterwise.responses.negative_binomial import NegativeBinomial
from clusterwise.responses.ordinal import Ordinal
from clusterwise.responses.poisson import Poisson
from clusterwise.responses.student import StudentT
from clusterwise.responses.zero_inflated import ZeroInflatedPoisson

FAMILIES: dict[str, type[AbstractFamily]] = {
    family.name: family
    for family in (
        Bernoulli,
        Binomial,
        Categorical,
        GammaResponse,
        Gaussian,
        NegativeBinomial,
        Ordinal,
        Poisson,
        StudentT,
        ZeroInflatedPoisson,
    )
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
