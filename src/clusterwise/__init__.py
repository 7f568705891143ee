"""Mixtures of regressions."""
from clusterwise.model import Model
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.responses.gaussian import Gaussian
from clusterwise.engines.engine import EM,VI,SVI,MemoizedVI,Gibbs
from clusterwise.weights.specification import Dirichlet,DirichletProcess,PitmanYor
from clusterwise.posteriors.specification import Normal,NormalInverseGamma,NormalInverseWishart,Gamma
