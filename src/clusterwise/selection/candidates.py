"""The candidates: every combination of what is to be tried, in chains that differ in K alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.model import Model
from clusterwise.responses.family import AbstractFamily


@dataclass(frozen=True, eq=False)
class Chain:
    """Candidates that differ in the number of clusters alone, the fewest first.

    `labels` say what the chain's model has of the axes that were varied.
    """

    model: Model
    labels: dict[str, str]
    n_components: tuple[int, ...]

    def candidate(self, k: int) -> Model:
        """The model with `k` clusters."""
        return replace(self.model, n_components=k)

    def name(self, k: int) -> str:
        """What a candidate is called in sentences."""
        return ", ".join([f"K = {k}", *self.labels.values()])


def chains(
    model: Model,
    n_components: int | Sequence[int],
    *,
    covariance_type: str | Sequence[str] | None,
    family: Any,
    covariates: Any,
) -> list[Chain]:
    """Every combination; an axis that is None stays as the model has it.

    Raises
    ------
    OptionError
        Where an axis is empty or does not go with the model.
    """
    numbers = _numbers(n_components)
    families = _axis("family", family, (str, AbstractFamily), model.family)
    densities = _axis("covariates", covariates, (str,), model.covariates)
    types = _axis("covariance_type", covariance_type, (str,), None)
    found: dict[Any, Chain] = {}
    for one, density, kind in product(families, densities, types):
        changed = density if kind is None else _with_covariance(density, kind)
        labels = {}
        if len(families) > 1:
            labels["family"] = _said(one)
        if len(densities) > 1:
            labels["covariates"] = _said(density)
        if len(types) > 1:
            labels["covariance_type"] = "none" if density is None else str(kind)
        chain = Chain(replace(model, family=one, covariates=changed), labels, numbers)
        # Without covariates there is no covariance: one chain, not one for each type.
        found.setdefault(tuple(labels.items()), chain)
    if covariance_type is not None and all(c.model.covariates is None for c in found.values()):
        raise OptionError(
            f"covariance_type={covariance_type!r} is that of covariates, and the model has none; "
            "give the model covariates, or leave covariance_type out."
        )
    return list(found.values())


def _numbers(n_components: int | Sequence[int]) -> tuple[int, ...]:
    whole = (int, np.integer)
    given = [n_components] if isinstance(n_components, whole) else list(n_components)
    if not given:
        raise OptionError("n_components is empty; give numbers of clusters, as range(1, 7).")
    for k in given:
        if not isinstance(k, whole) or isinstance(k, bool) or k < 1:
            raise OptionError(
                f"n_components has {k!r}; it takes whole numbers of clusters, at least 1."
            )
    return tuple(sorted({int(k) for k in given}))


def _axis(name: str, given: Any, single: tuple[type, ...], own: Any) -> list[Any]:
    """Values of an axis: the model's own, one, or several."""
    if given is None:
        return [own]
    if isinstance(given, single):
        return [given]
    values = list(given)
    if not values:
        raise OptionError(f"{name} is empty; list what to try, or leave it out.")
    return values


def _with_covariance(covariates: Any, kind: str) -> Any:
    if covariates is None:
        return None
    if isinstance(covariates, str):
        return [GaussianCovariates(covariates, covariance_type=kind)]
    changed = [
        replace(one, covariance_type=kind) if isinstance(one, GaussianCovariates) else one
        for one in covariates
    ]
    if changed == list(covariates) and not any(
        isinstance(one, GaussianCovariates) for one in covariates
    ):
        raise OptionError(
            f"covariance_type={kind!r} is that of Gaussian covariates, and {covariates!r} has "
            "none; leave covariance_type out."
        )
    return changed


def _said(value: Any) -> str:
    """A family or covariates, as a table has it."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_said, value))
    return value if isinstance(value, str) else repr(value)
