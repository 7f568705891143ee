"""scikit-learn estimators over `Model`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from clusterwise.assembly.specify import Prior
from clusterwise.core.errors import OptionError
from clusterwise.core.random import RandomState
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.engines.engine import AbstractEngine
from clusterwise.engines.registry import resolve_engine
from clusterwise.fit import Fit
from clusterwise.frames.formula import MAX_TERMS
from clusterwise.model import Model, infer
from clusterwise.record import FitRecord
from clusterwise.responses.gaussian import Gaussian
from clusterwise.streaming import Stream, start_stream, stream_more
from clusterwise.weights.specification import AbstractWeights

__all__ = ["ClusterwiseRegressor"]

_RESPONSE = "y"
_WEIGHT = "weight"
# scikit-learn has no types, and those inferred from its defaults are wrong.
_validate: Callable[..., Any] = validate_data
_validate_weight: Callable[..., np.ndarray] = _check_sample_weight


def _can_stream(estimator: ClusterwiseRegressor) -> bool:
    """Whether `partial_fit` exists; an engine that is not known is an error of the call itself."""
    try:
        engine = resolve_engine(estimator.engine)
    except (OptionError, TypeError):
        return True
    if not engine.streams:
        raise AttributeError(
            "partial_fit needs a variational engine (engine='vi', 'svi' or 'memoized'), not "
            f"{engine.name!r}."
        )
    return True


class ClusterwiseRegressor(RegressorMixin, BaseEstimator):
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

    n_features_in_: int

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

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; as many rows as the model has parameters at least, and fewer than 1,000
            columns.
        y : array-like of shape (n_samples,)
            Response.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows; zero leaves a row out, and 2 counts it twice.

        Returns
        -------
        ClusterwiseRegressor
            The estimator itself.
        """
        features, response, weight = self._checked(X, y, sample_weight, reset=True)
        self._fit_first(features, response, weight)
        return self

    @available_if(_can_stream)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn from a further batch of rows, by streaming variational Bayes.

        The first batch is fitted in full. The rows of a later one are assigned to clusters under
        the posterior so far, once, and their sufficient statistics added to those of all rows
        before; nothing is forgotten. The first batch should therefore look like the rest: it
        finds the clusters, sets the units and the default prior, and needs as many rows as the
        model has parameters. Components keep the first batch's numbers, and changes of the
        estimator's parameters have no effect until the next `fit`.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`; any number of rows from the second batch on.

        Returns
        -------
        ClusterwiseRegressor
            The estimator itself.
        """
        first = getattr(self, "_stream", None) is None
        features, response, weight = self._checked(X, y, sample_weight, reset=first)
        if first:
            self._fit_first(features, response, weight)
        else:
            self._fit_more(features, response, weight)
        return self

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

    def responsibilities(self, X: ArrayLike, y: ArrayLike | None = None) -> np.ndarray:
        """Probability of each cluster for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,), default=None
            Response. Without it the probabilities are those given X alone: the mixing weights,
            the same for all rows, unless `covariates=True`.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Rows sum to one.
        """
        columns = self._new(X, y)
        return self._estimate.responsibilities(columns, use_response=y is not None)

    def assign(self, X: ArrayLike, y: ArrayLike | None = None) -> np.ndarray:
        """Most probable cluster of each row.

        Parameters
        ----------
        X, y
            As for `responsibilities`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Whole numbers, 0 the cluster with the largest weight.
        """
        return self.responsibilities(X, y).argmax(axis=1)

    def score_samples(self, X: ArrayLike, y: ArrayLike) -> np.ndarray:
        """Log density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Response.

        Returns
        -------
        ndarray of shape (n_samples,)
            log p(y | x), or log p(x, y) with `covariates=True`, at the point estimates.
        """
        columns = self._new(X, y)
        return self._estimate.score_samples(columns)

    # -- data -----------------------------------------------------------------------------------

    def _checked(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        features, response = _validate(
            self,
            X,
            y,
            dtype=np.float64,
            y_numeric=True,
            ensure_min_samples=2 if reset else 1,
            reset=reset,
        )
        weight = None
        if sample_weight is not None:
            weight = _validate_weight(
                sample_weight, features, dtype=np.float64, ensure_non_negative=True
            )
        return features, response.astype(np.float64), weight

    def _new(self, X: ArrayLike, y: ArrayLike | None = None) -> dict[str, np.ndarray]:
        """Columns of new rows, checked."""
        check_is_fitted(self)
        if y is None:
            return _columns(_validate(self, X, dtype=np.float64, reset=False))
        features, response, _ = self._checked(X, y, None, reset=False)
        return _columns(features, response)

    # -- fitting --------------------------------------------------------------------------------

    def _model(self, n_features: int, weighted: bool) -> Model:
        if n_features >= MAX_TERMS:
            raise OptionError(
                f"X has {n_features} features; ClusterwiseRegressor takes fewer than {MAX_TERMS:,}."
                " Select some, or reduce them first, for example by sklearn.decomposition.PCA."
            )
        terms = " + ".join(f"x{j}" for j in range(n_features))
        return Model(
            f"{_RESPONSE} ~ {'' if self.fit_intercept else '0 + '}{terms}",
            family=Gaussian(shared_sigma=self.shared_sigma),
            n_components=self.n_components,
            covariates=(
                [GaussianCovariates(terms, covariance_type=self.covariance_type)]
                if self.covariates
                else None
            ),
            weights=self.weights,
            prior=self.prior,
            sample_weight=_WEIGHT if weighted else None,
        )

    def _fit_first(self, features: np.ndarray, response: np.ndarray, weight: Any) -> None:
        model = self._model(features.shape[1], weight is not None)
        engine = resolve_engine(self.engine)
        columns = _columns(features, response, weight)
        record, problem, outcome = infer(model, columns, engine, self.random_state)
        if not record.converged:
            warnings.warn(
                f"engine={engine.name!r} stopped after {record.n_iter} iterations before it "
                "converged; raise max_iter (max_epochs for svi and memoized), or relax tol.",
                ConvergenceWarning,
                stacklevel=3,
            )
        stream = None
        if engine.streams:
            record, stream = start_stream(record, problem, outcome)
        self._keep(model, record, stream, columns)

    def _fit_more(self, features: np.ndarray, response: np.ndarray, weight: Any) -> None:
        columns = _columns(features, response)
        if weight is None:
            weight = np.ones(len(response))
        rows = np.concatenate(
            list(self._estimate.reader.rows(columns, response=True, regressors=True))
        )
        assert self._stream is not None
        record, stream = stream_more(self._record, self._stream, rows, weight)
        self._keep(self.fit_.model, record, stream, columns)

    def _keep(
        self,
        model: Model,
        record: FitRecord,
        stream: Stream | None,
        columns: dict[str, np.ndarray],
    ) -> None:
        self._record = record
        self._stream = stream
        self.fit_ = Fit(model, record)
        # Without the posterior a fit predicts from its point estimates.
        self._estimate = Fit(model, replace(record, posterior=None))
        terms = [f"x{j}" for j in range(self.n_features_in_)]
        coefficients = self.fit_.coefficients
        self.weights_ = self.fit_.weights.to_numpy()
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
        self.labels_ = self._estimate.assign(columns)
        self.lower_bound_ = record.objective
        self.n_iter_ = record.n_iter
        self.converged_ = record.converged


def _columns(
    features: np.ndarray, response: np.ndarray | None = None, weight: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Columns x0, x1, ..., y and the weight, as the model's formula names them."""
    columns = {f"x{j}": features[:, j] for j in range(features.shape[1])}
    if response is not None:
        columns[_RESPONSE] = response
    if weight is not None:
        columns[_WEIGHT] = weight
    return columns
