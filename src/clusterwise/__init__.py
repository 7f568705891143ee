"""Mixtures of regressions: unlabelled clusters, each with its own regression.

>>> import clusterwise as cw
>>> model = cw.Model("y ~ x", n_components=2)

Names are imported when they are first used, so that `import clusterwise` takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clusterwise.core.version import __version__

if TYPE_CHECKING:
    from clusterwise.core.errors import (
        ClusterwiseError,
        ClusterwiseWarning,
        DataError,
        FileError,
        FormulaError,
        OptionError,
    )
    from clusterwise.covariates.bernoulli import BernoulliCovariates
    from clusterwise.covariates.categorical import CategoricalCovariates
    from clusterwise.covariates.family import FamilyCovariates, StudentTCovariates
    from clusterwise.covariates.gaussian import GaussianCovariates
    from clusterwise.covariates.poisson import PoissonCovariates
    from clusterwise.engines.optimisers import EM, SVI, VI, MemoizedVI
    from clusterwise.engines.samplers import NUTS, Gibbs
    from clusterwise.estimators.classifier import ClusterwiseClassifier
    from clusterwise.estimators.regressor import ClusterwiseRegressor
    from clusterwise.fit import Fit
    from clusterwise.interop.mixture import MixtureOfRegressions
    from clusterwise.io import load
    from clusterwise.model import Model
    from clusterwise.posteriors.specification import (
        Gamma,
        Normal,
        NormalInverseGamma,
        NormalInverseWishart,
    )
    from clusterwise.regression.structure import Hierarchical, Horseshoe, Ridge
    from clusterwise.responses.binomial import Bernoulli, Binomial
    from clusterwise.responses.categorical import Categorical
    from clusterwise.responses.gamma import GammaResponse
    from clusterwise.responses.gaussian import Gaussian
    from clusterwise.responses.negative_binomial import NegativeBinomial
    from clusterwise.responses.ordinal import Ordinal
    from clusterwise.responses.poisson import Poisson
    from clusterwise.responses.student import StudentT
    from clusterwise.responses.zero_inflated import ZeroInflatedPoisson
    from clusterwise.selection.ratio import LikelihoodRatioTest, likelihood_ratio_test
    from clusterwise.selection.select import select
    from clusterwise.selection.selection import Selection
    from clusterwise.weights.gated import Gated, LogitStickBreaking
    from clusterwise.weights.specification import (
        Dirichlet,
        DirichletProcess,
        KnownWeights,
        PitmanYor,
    )

__all__ = [
    "EM",
    "NUTS",
    "SVI",
    "VI",
    "Bernoulli",
    "BernoulliCovariates",
    "Binomial",
    "Categorical",
    "CategoricalCovariates",
    "ClusterwiseClassifier",
    "ClusterwiseError",
    "ClusterwiseRegressor",
    "ClusterwiseWarning",
    "DataError",
    "Dirichlet",
    "DirichletProcess",
    "FamilyCovariates",
    "FileError",
    "Fit",
    "FormulaError",
    "Gamma",
    "GammaResponse",
    "Gated",
    "Gaussian",
    "GaussianCovariates",
    "Gibbs",
    "Hierarchical",
    "Horseshoe",
    "KnownWeights",
    "LikelihoodRatioTest",
    "LogitStickBreaking",
    "MemoizedVI",
    "MixtureOfRegressions",
    "Model",
    "NegativeBinomial",
    "Normal",
    "NormalInverseGamma",
    "NormalInverseWishart",
    "OptionError",
    "Ordinal",
    "PitmanYor",
    "Poisson",
    "PoissonCovariates",
    "Ridge",
    "Selection",
    "StudentT",
    "StudentTCovariates",
    "ZeroInflatedPoisson",
    "__version__",
    "likelihood_ratio_test",
    "load",
    "select",
]

_HOMES = {
    "core.errors": (
        "ClusterwiseError ClusterwiseWarning DataError FileError FormulaError OptionError"
    ),
    "covariates.bernoulli": "BernoulliCovariates",
    "covariates.categorical": "CategoricalCovariates",
    "covariates.family": "FamilyCovariates StudentTCovariates",
    "covariates.gaussian": "GaussianCovariates",
    "covariates.poisson": "PoissonCovariates",
    "engines.optimisers": "EM SVI VI MemoizedVI",
    "engines.samplers": "Gibbs NUTS",
    "estimators.classifier": "ClusterwiseClassifier",
    "estimators.regressor": "ClusterwiseRegressor",
    "fit": "Fit",
    "interop.mixture": "MixtureOfRegressions",
    "io": "load",
    "model": "Model",
    "posteriors.specification": "Gamma Normal NormalInverseGamma NormalInverseWishart",
    "regression.structure": "Hierarchical Horseshoe Ridge",
    "responses.binomial": "Bernoulli Binomial",
    "responses.categorical": "Categorical",
    "responses.gamma": "GammaResponse",
    "responses.gaussian": "Gaussian",
    "responses.negative_binomial": "NegativeBinomial",
    "responses.ordinal": "Ordinal",
    "responses.poisson": "Poisson",
    "responses.student": "StudentT",
    "responses.zero_inflated": "ZeroInflatedPoisson",
    "selection.ratio": "LikelihoodRatioTest likelihood_ratio_test",
    "selection.select": "select",
    "selection.selection": "Selection",
    "weights.gated": "Gated LogitStickBreaking",
    "weights.specification": "Dirichlet DirichletProcess KnownWeights PitmanYor",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"clusterwise.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'clusterwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
