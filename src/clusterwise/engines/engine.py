"""What all engines are to a user: settings that are checked, needs that are said early."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from clusterwise.core.errors import OptionError
from clusterwise.engines.ascent import WIDE, Progress, is_wide
from clusterwise.engines.problem import Outcome, Problem

N_INIT = 32


class AbstractEngine(ABC):
    """A way to infer a model's parameters from rows."""

    name: ClassVar[str]
    flat_prior: ClassVar[bool]
    resumable: ClassVar[bool] = False
    any_prior: ClassVar[bool] = False
    seeks_mode: ClassVar[bool] = False
    """Whether it maximises the density of all parameters, which must then have a maximum."""
    streams: ClassVar[bool] = False
    """Whether its posterior can be updated by the statistics of more rows."""

    def check(self, proper: bool, free: Sequence[str] = (), learned: Sequence[str] = ()) -> None:
        """Refuse a prior that the engine cannot take.

        Parameters
        ----------
        proper
            Whether it is a distribution.
        free
            Parts of it that are any distributions, not conjugate ones.
        learned
            Priors of coefficients, by name, whose scale is learned.
        """
        if learned and self.seeks_mode:
            raise OptionError(
                f"coefficients={learned[0]!r} has no mode for engine={self.name!r} to find: the "
                "density of coefficients and their scale grows without bound as both go to zero. "
                "Use engine='vi', 'gibbs' or 'nuts', or cw.Hierarchical(sd=...) with a known scale."
            )
        if free and not self.any_prior:
            raise OptionError(
                f"engine={self.name!r} takes conjugate priors, not the NumPyro distributions of "
                f"prior[{free[0]!r}]: use engine='nuts', or a prior such as "
                "cw.NormalInverseGamma(...)."
            )
        if not proper and not self.flat_prior:
            raise OptionError(
                f"engine={self.name!r} needs a proper prior: use prior='default' or explicit "
                "priors, or engine='em' for maximum likelihood with prior='flat'."
            )

    @abstractmethod
    def run(self, problem: Problem, rng: np.random.Generator, progress: Progress) -> Outcome:
        """Fit."""


def check_narrow(name: str, problem: Problem) -> None:
    """Refuse rows of more columns than an engine takes."""
    if is_wide(problem.source):
        raise OptionError(
            f"engine={name!r} takes up to {WIDE} columns (constant, regressors, covariates and "
            f"responses together), and the model has {problem.source.block(0).n_columns}; use "
            "engine='vi', 'em' or 'gibbs'."
        )


def check_at_least(engine: Any, **least: float) -> None:
    """Refuse settings below their least value, and fractions where that is a whole number."""
    for name, bound in least.items():
        value = getattr(engine, name)
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not value >= bound:
            raise OptionError(
                f"{type(engine).__name__}({name}={value!r}) must be at least {bound}."
            )
        if isinstance(bound, int) and name not in ("tol", "delay") and int(value) != value:
            raise OptionError(f"{type(engine).__name__}({name}={value!r}) must be a whole number.")
