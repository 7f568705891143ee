"""Numerical derivatives, to compare with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def information(
    function: Callable[[np.ndarray], float], at: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """Negative second derivatives (d, d) by central differences."""
    d, moves = at.size, np.diag(step)
    found = np.zeros((d, d))
    for i in range(d):
        for j in range(i + 1):
            corners = [
                a * b * function(at + a * moves[i] + b * moves[j]) for a in (1, -1) for b in (1, -1)
            ]
            found[i, j] = found[j, i] = -sum(corners) / (4 * step[i] * step[j])
    return found


def errors(function: Callable[[np.ndarray], float], at: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Standard errors (d,) of a maximum likelihood estimate."""
    return np.sqrt(np.diagonal(np.linalg.inv(information(function, at, step))))
