"""What scikit-learn estimators over `Model` share: data, fitting, memberships."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from clusterwise.core.errors import OptionError
from clusterwise.core.random import RandomState
from clusterwise.engines.engine import AbstractEngine
from clusterwise.engines.registry import resolve_engine
from clusterwise.fit import Fit
from clusterwise.frames.formula import MAX_TERMS
from clusterwise.model import Model, infer
from clusterwise.record import FitRecord
from clusterwise.streaming import Stream, start_stream, stream_more

RESPONSE = "y"
WEIGHT = "weight"
# scikit-learn has no types, and those inferred from its defaults are wrong.
validate: Callable[..., Any] = validate_data
_validate_weight: Callable[..., np.ndarray] = _check_sample_weight


def can_stream(estimator: AbstractClusterwise) -> bool:
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


class AbstractClusterwise(BaseEstimator):
    """An estimator whose rows are X and y, in columns x0, x1, ... and y of its model."""

    engine: str | AbstractEngine
    fit_intercept: bool
    random_state: RandomState
    n_features_in_: int
    fit_: Fit
    _record: FitRecord
    _stream: Stream | None
    _estimate: Fit

    @abstractmethod
    def _model(self, formula: str, terms: str, weighted: bool) -> Model:
        """The model of a formula, whose terms these are."""

    @abstractmethod
    def _coded(self, y: np.ndarray, weight: np.ndarray | None, *, reset: bool) -> np.ndarray:
        """The response as the model's column y has it; it is learned what may occur at `reset`."""

    @abstractmethod
    def _keep_coefficients(self, terms: list[str]) -> None:
        """Set the attributes of the fit that are of the response."""

    @property
    def _numeric(self) -> bool:
        """Whether the response is a number."""
        return True

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
        self
            The estimator itself.
        """
        features, response, weight = self._checked(X, y, sample_weight, reset=True)
        self._fit_first(features, response, weight)
        return self

    @available_if(can_stream)
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
        self
            The estimator itself.
        """
        first = getattr(self, "_stream", None) is None
        features, response, weight = self._checked(X, y, sample_weight, reset=first)
        if first:
            self._fit_first(features, response, weight)
        else:
            self._fit_more(features, response, weight)
        return self

    def responsibilities(self, X: ArrayLike, y: ArrayLike | None = None) -> np.ndarray:
        """Probability of each cluster for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,), default=None
            Response. Without it the probabilities are those given X alone: the mixing weights,
            the same for all rows, unless the density of X is modelled.

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
            log p(y | x), or log p(x, y) where the density of X is modelled, at the point
            estimates.
        """
        columns = self._new(X, y)
        return self._estimate.score_samples(columns)

    # -- data -----------------------------------------------------------------------------------

    def _checked(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        features, response = validate(
            self,
            X,
            y,
            dtype=np.float64,
            y_numeric=self._numeric,
            ensure_min_samples=2 if reset else 1,
            reset=reset,
        )
        weight = None
        if sample_weight is not None:
            weight = _validate_weight(
                sample_weight, features, dtype=np.float64, ensure_non_negative=True
            )
        return features, self._coded(response, weight, reset=reset), weight

    def _new(self, X: ArrayLike, y: ArrayLike | None = None) -> dict[str, np.ndarray]:
        """Columns of new rows, checked."""
        check_is_fitted(self)
        if y is None:
            return _columns(validate(self, X, dtype=np.float64, reset=False))
        features, response, _ = self._checked(X, y, None, reset=False)
        return _columns(features, response)

    # -- fitting --------------------------------------------------------------------------------

    def _model_of(self, n_features: int, weighted: bool) -> Model:
        if n_features >= MAX_TERMS:
            raise OptionError(
                f"X has {n_features} features; {type(self).__name__} takes fewer than "
                f"{MAX_TERMS:,}. Select some, or reduce them first, for example by "
                "sklearn.decomposition.PCA."
            )
        terms = " + ".join(f"x{j}" for j in range(n_features))
        formula = f"{RESPONSE} ~ {'' if self.fit_intercept else '0 + '}{terms}"
        return self._model(formula, terms, weighted)

    def _fit_first(self, features: np.ndarray, response: np.ndarray, weight: Any) -> None:
        model = self._model_of(features.shape[1], weight is not None)
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
        self.weights_ = self.fit_.weights.to_numpy()
        self._keep_coefficients([f"x{j}" for j in range(self.n_features_in_)])
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
        columns[RESPONSE] = response
    if weight is not None:
        columns[WEIGHT] = weight
    return columns
