"""Mixtures of regressions: unlabelled clusters, each with its own regression.

>>> import clusterwise as cw
>>> model = cw.Model("y ~ x", n_components=2)
"""

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

__version__ = "0.1.0"

__all__ = [
    "EM",
    "SVI",
    "VI",
    "ClusterwiseError",
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
