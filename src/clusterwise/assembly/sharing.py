"""Which terms clusters share, all of them or groups of them, and how they pool the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clusterwise.assembly.layout import ResponseSpec
from clusterwise.core.errors import OptionError
from clusterwise.core.runtime import double_precision
from clusterwise.covariates.density import AbstractDensity
from clusterwise.frames.formula import parse
from clusterwise.posteriors.places import component_kinds
from clusterwise.regression.structure import (
    AbstractCoefficients,
    Groups,
    Independent,
    resolve_coefficients,
)
from clusterwise.weights.specification import AbstractWeights

Shared = str | Mapping[str, Any] | None
_ALL = "all"


def with_structure(
    responses: Sequence[ResponseSpec],
    n_components: int,
    shared: Shared,
    coefficients: str | AbstractCoefficients,
) -> tuple[ResponseSpec, ...]:
    """Give responses their shared terms, and how the other coefficients go together.

    Parameters
    ----------
    responses, n_components
        As they are without.
    shared, coefficients
        As for `Model`.

    Raises
    ------
    OptionError
        Where an argument cannot be taken.
    """
    known = {term: None for response in responses for term in _terms(response.right)}
    terms = _shared_terms(shared, n_components, tuple(known))
    pooling = resolve_coefficients(coefficients)
    plain = isinstance(pooling, Independent)
    if not plain and not responses:
        raise OptionError(
            f"coefficients={pooling.name!r} needs a response; give Model a formula, or leave "
            "coefficients out."
        )
    found = []
    for response in responses:
        own = _terms(response.right)
        of_it = tuple((term, groups) for term, groups in terms if term in own)
        family = response.family if plain and not of_it else response.family.structured()
        found.append(replace(response, family=family, shared=of_it, coefficients=pooling))
    return tuple(found)


def check_structure(
    responses: Sequence[ResponseSpec],
    densities: Sequence[AbstractDensity],
    n_components: int,
    weights: AbstractWeights,
    *,
    flat: bool,
) -> None:
    """Refuse what contradicts how coefficients go together.

    Parameters
    ----------
    responses, densities, n_components, weights
        As resolved.
    flat
        Whether the prior is flat.

    Raises
    ------
    OptionError
        Where there is a contradiction.
    """
    for pooling in (*(r.coefficients for r in responses), *(d.pooling for d in densities)):
        if flat and not isinstance(pooling, Independent):
            raise OptionError(
                f"coefficients={pooling.name!r} is a prior, and prior='flat' is none; use "
                "prior='default', or leave coefficients out."
            )
    for response in responses:
        kinds = component_kinds(n_components, [groups for _, groups in response.shared])
        if kinds is not None and _has_order(weights, n_components):
            raise OptionError(
                "shared names components by number, and weights="
                f"{type(weights).__name__} give their numbers another meaning; use "
                "weights='dirichlet'."
            )


@double_precision
def _has_order(weights: AbstractWeights, n_components: int) -> bool:
    return weights.prior(n_components, flat=False).has_order


def _shared_terms(
    shared: Shared, n_components: int, known: tuple[frozenset[str], ...]
) -> tuple[tuple[frozenset[str], Groups], ...]:
    """Terms, each as the set of its factors, with the group of each component."""
    if shared is None:
        return ()
    if isinstance(shared, Mapping):
        pairs = [(_one_term(text), groups) for text, groups in shared.items()]
        twice = [_name(term) for i, (term, _) in enumerate(pairs) if term in dict(pairs[:i])]
        if twice:
            raise OptionError(f"shared={shared!r} names the term {twice[0]!r} twice; name it once.")
    else:
        terms = _terms(f"0 + {shared}")
        if "1" in {piece.strip() for piece in shared.split("+")}:
            terms = (*terms, frozenset[str]())
        pairs = [(term, _ALL) for term in terms]
    unknown = [_name(term) for term, _ in pairs if term not in known]
    if unknown or not pairs:
        raise OptionError(
            f"shared={shared!r} names {', '.join(map(repr, sorted(unknown))) or 'no term'}; the "
            f"formula has {', '.join(sorted(repr(_name(term)) for term in known))}."
        )
    read = [(term, _groups(_name(term), groups, n_components)) for term, groups in pairs]
    # Where every component is alone nothing is shared.
    return tuple((term, own) for term, own in read if not own or max(own) + 1 < n_components)


def _groups(term: str, groups: Any, n_components: int) -> Groups:
    """The group of each component, counted by the first of each; none where all are in one."""
    if isinstance(groups, str) and groups == _ALL:
        return ()
    wrong = OptionError(
        f"shared[{term!r}]={groups!r} must be 'all' or a list of groups, each a list of numbers "
        f"of components from 0 to {n_components - 1}, such as [[0, 1], [2]]."
    )
    if not isinstance(groups, (list, tuple)):
        raise wrong
    found = np.arange(n_components)
    seen: set[int] = set()
    for own in groups:
        if not isinstance(own, (list, tuple)) or not own:
            raise wrong
        for k in own:
            whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
            if not whole or not 0 <= k < n_components:
                raise wrong
            if k in seen:
                raise OptionError(f"shared[{term!r}] has component {k} twice; it can be in one.")
            seen.add(int(k))
        found[list(own)] = min(own)
    labels = np.unique(found, return_inverse=True)[1]
    return () if labels.max() == 0 else tuple(int(label) for label in labels)


def _one_term(text: str) -> frozenset[str]:
    if text.strip() == "1":
        return frozenset()
    terms = _terms(f"0 + {text}")
    if len(terms) != 1:
        raise OptionError(
            f"shared names {text!r}; with groups every key must be one term, such as 'x2' or '1'."
        )
    return terms[0]


def _name(term: frozenset[str]) -> str:
    return ":".join(sorted(term)) or "1"


def _terms(right: str) -> tuple[frozenset[str], ...]:
    parsed = parse(right, response=False)
    return tuple(frozenset(factor.name for factor in term) for term in parsed.terms)
