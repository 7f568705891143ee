"""What a summary says of estimates at the boundary: separated responses, levels never there."""

from __future__ import annotations

import numpy as np

from clusterwise.assembly.assemble import Assembled
from clusterwise.assembly.layout import Part
from clusterwise.engines.problem import Outcome
from clusterwise.engines.separation import separated
from clusterwise.responses.generalised import AbstractGeneralised

_NONE = 1e-3
"""Expected rows, below which a cluster has none of a level."""


def boundary_notes(assembled: Assembled, outcome: Outcome, order: np.ndarray) -> list[str]:
    """Components and responses whose estimates owe their size to the prior or the tolerance.

    Parameters
    ----------
    assembled
        The problem, and the names of its parts.
    outcome
        What the engine found.
    order
        Components by weight.
    """
    parts = assembled.prepared.layout.parts
    free = tuple(_own_places(part) for part in parts)
    lost = separated(assembled.problem, outcome.parameters, free)
    priors = assembled.spec.priors
    notes = []
    for part, found in zip(parts, lost, strict=True):
        if not found.any():
            continue
        cure = "the prior's doing"
        if priors[part.kind] == "flat":
            cure = "where the engine stopped, and means nothing; use prior='default'"
        numbers = np.flatnonzero(found[order])
        notes.append(
            f"{part.title!r} leaves the likelihood without a maximum in {_components(numbers)}: "
            "its values are all the same or separated by the regressors there. The estimate is at "
            f"the boundary; its size is {cure}."
        )
    rows = np.exp(np.asarray(outcome.parameters.parts[0].log_weights))[order]
    rows = rows * assembled.prepared.n_units
    for part, values in zip(parts, outcome.parameters.parts[1:], strict=True):
        known = {} if part.is_response else part.form.outcomes(part.names, values)
        for name, share in known.items():
            never = np.flatnonzero((share[order] * rows < _NONE) & (rows >= 1))
            if never.size:
                notes.append(
                    f"{name!r} never occurs in {_components(never)}: its estimate there is zero, "
                    "so that no row with it can belong; use prior='default' to allow for it."
                )
    return notes


def _own_places(part: Part) -> np.ndarray:
    """Places of the coefficients of the regressors that a cluster has for itself."""
    if not part.is_response or not isinstance(part.form, AbstractGeneralised):
        return np.zeros(0, int)
    p, shared = len(part.regressors), dict(part.structure.shared)
    own = [j for j in range(p) if j not in shared]
    predictors = part.form.n_predictors(len(part.responses))
    return np.array([i * p + j for i in range(predictors) for j in own], int)


def _components(numbers: np.ndarray) -> str:
    listed = ", ".join(map(str, numbers))
    return f"component{'' if numbers.size == 1 else 's'} {listed}"
