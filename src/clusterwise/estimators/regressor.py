"""The regressor: a mixture of linear regressions as scikit-learn has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin

from clusterwise.assembly.specify import Prior
from clusterwise.core.random import RandomState
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.engines.engine import AbstractEngine
from clusterwise.estimators.base import WEIGHT, AbstractClusterwise
from clusterwise.model import Model
from clusterwise.responses.gaussian import Gaussian
from clusterwise.weights.specification import AbstractWeights


class ClusterwiseRegressor(RegressorMixin, AbstractClusterwise):
    """Mixture of linear regressions: clusters that nobody labelled, each with its own regression.

    Predictions are made with the posterior mean of weights and coefficients, or averaged over the
    draws of `Gibbs`. Components are numbered from 0, the largest weight first.

    Parameters
    ----------
    n_components : int, default=2
        Number of clusters, or the truncation of a Dirichlet or Pitman-Yor process.
    covariates : bool, default=False
        Whether to model the density of X in each cluster as well. Then the clusters of a row are
        weighted by p(z | x) in predictions, otherwise by the mixing weights alone.
    covariance_type : {"full", "diag", "spherical", "tied"}, default="full"
        Covariance of X in each cluster; of use with `covariates=True` only.
    weights : str or weights object, default="dirichlet"
        "dirichlet", "dirichlet_process", "pitman_yor", or `Dirichlet`, `DirichletProcess`,
        `PitmanYor`, `KnownWeights`.
    engine : str or engine, default="vi"
        "em", "vi", "svi", "memoized" or "gibbs", or a configured one: `EM`, `VI`, `SVI`,
        `MemoizedVI`, `Gibbs`.
    prior : str or dict, default="default"
        "default" (weakly informative), "flat" (maximum likelihood, `engine="em"` only), or a
        dictionary with the keys "y" and "covariates"; see `Model`.
    shared_sigma : bool, default=False
        Whether all clusters have the same residual standard deviation.
    fit_intercept : bool, default=True
        Whether each cluster's regression has an intercept.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the starting values, of the sample of rows they come from, and of `Gibbs`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Mixing weights.
    coef_ : ndarray of shape (n_components, n_features)
        Coefficients of each cluster; zero where the data do not identify one.
    intercept_ : ndarray of shape (n_components,)
        Intercepts; zero without `fit_intercept`.
    sigma_ : ndarray of shape (n_components,)
        Residual standard deviations.
    means_ : ndarray of shape (n_components, n_features)
        Means of X in each cluster, with `covariates=True` only; NaN for columns whose density is
        left out because they are constant or a linear combination of others.
    covariances_ : ndarray of shape (n_components, n_features, n_features)
        Covariances of X in each cluster, for all covariance types, as `means_`.
    labels_ : ndarray of shape (n_samples,)
        Most probable cluster of each row of the last call of `fit` or `partial_fit`.
    lower_bound_ : float
        What the engine maximised: the evidence lower bound of all rows seen, for EM the penalised
        log likelihood.
    n_iter_ : int
        Iterations of the engine, plus one for each later batch.
    converged_ : bool
        Whether the engine met its tolerance, on the first batch where there were several.
    fit_ : Fit
        The fit itself, with its summary, posterior, restarts and notes. Its columns are x0, x1,
        ... and y. After a second `partial_fit` its log likelihood is NaN: earlier rows are gone.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all text.

    References
    ----------
    DeSarbo and Cron (1988), Journal of Classification 5. Broderick, Boyd, Wibisono, Wilson and
    Jordan (2013), Advances in Neural Information Processing Systems 26, for `partial_fit`.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (300, 1))
    >>> y = np.where(rng.random(300) < 0.3, 3 * X[:, 0], 1 - X[:, 0]) + 0.1 * rng.normal(size=300)
    >>> regressor = cw.ClusterwiseRegressor(n_components=2, random_state=0).fit(X, y)
    >>> regressor.coef_.round(1).ravel()
    array([-1.,  3.])
    >>> regressor.assign([[0.5], [0.5]], [0.5, 1.5])
    array([0, 1])
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        covariates: bool = False,
        covariance_type: str = "full",
        weights: str | AbstractWeights = "dirichlet",
        engine: str | AbstractEngine = "vi",
        prior: Prior = "default",
        shared_sigma: bool = False,
        fit_intercept: bool = True,
        random_state: RandomState = None,
    ) -> None:
        self.n_components = n_components
        self.covariates = covariates
        self.covariance_type = covariance_type
        self.weights = weights
        self.engine = engine
        self.prior = prior
        self.shared_sigma = shared_sigma
        self.fit_intercept = fit_intercept
        self.random_state = random_state

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Expected response given the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,)
            E[y | x], the average of the clusters' regressions.
        """
        columns = self._new(X)
        return np.asarray(self._estimate.predict(columns))

    def _coded(self, y: np.ndarray, weight: np.ndarray | None, *, reset: bool) -> np.ndarray:
        return y.astype(np.float64)

    def _model(self, formula: str, terms: str, weighted: bool) -> Model:
        density = GaussianCovariates(terms, covariance_type=self.covariance_type)
        return Model(
            formula,
            family=Gaussian(shared_sigma=self.shared_sigma),
            n_components=self.n_components,
            covariates=[density] if self.covariates else None,
            weights=self.weights,
            prior=self.prior,
            sample_weight=WEIGHT if weighted else None,
        )

    def _keep_coefficients(self, terms: list[str]) -> None:
        coefficients = self.fit_.coefficients
        self.coef_ = coefficients[terms].to_numpy()
        self.intercept_ = (
            coefficients["Intercept"].to_numpy()
            if "Intercept" in coefficients
            else np.zeros(len(self.coef_))
        )
        self.sigma_ = self.fit_.dispersion["sigma"].to_numpy()
        for name in ("means_", "covariances_"):
            vars(self).pop(name, None)
        if self.fit_.model.covariates is not None:
            self.means_ = self.fit_.means.reindex(columns=terms).to_numpy()
            self.covariances_ = np.stack(
                [c.reindex(index=terms, columns=terms).to_numpy() for c in self.fit_.covariances]
            )
