"""Mixtures of regressions: unlabelled clusters, each with its own regression.

>>> import clusterwise as cw
>>> model = cw.Model("y ~ x", n_components=2)
"""

from typing import TYPE_CHECKING, Any

from clusterwise.core.errors import (
    ClusterwiseError,
    ClusterwiseWarning,
    DataError,
    FileError,
    FormulaError,
    OptionError,
)
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.engines.engine import EM, SVI, VI, Gibbs, MemoizedVI
from clusterwise.fit import Fit
from clusterwise.io import load
from clusterwise.model import Model
from clusterwise.posteriors.specification import (
    Gamma,
    Normal,
    NormalInverseGamma,
    NormalInverseWishart,
)
from clusterwise.responses.gaussian import Gaussian
from clusterwise.weights.specification import Dirichlet, DirichletProcess, PitmanYor

if TYPE_CHECKING:
    from clusterwise.estimators import ClusterwiseRegressor

__version__ = "0.1.0"

__all__ = [
    "EM",
    "SVI",
    "VI",
    "ClusterwiseError",
    "ClusterwiseRegressor",
    "ClusterwiseWarning",
    "DataError",
    "Dirichlet",
    "DirichletProcess",
    "FileError",
    "Fit",
    "FormulaError",
    "Gamma",
    "Gaussian",
    "GaussianCovariates",
    "Gibbs",
    "MemoizedVI",
    "Model",
    "Normal",
    "NormalInverseGamma",
    "NormalInverseWishart",
    "OptionError",
    "PitmanYor",
    "load",
]


def __getattr__(name: str) -> Any:
    # scikit-learn takes most of a second to import.
    if name == "ClusterwiseRegressor":
        from clusterwise.estimators import ClusterwiseRegressor

        return ClusterwiseRegressor
    if name == "ClusterwiseClassifier":
        raise AttributeError(
            "clusterwise.ClusterwiseClassifier needs a Bernoulli or categorical response, which "
            "this version does not have; use cw.ClusterwiseRegressor for a Gaussian one."
        )
    raise AttributeError(f"module 'clusterwise' has no attribute {name!r}")
