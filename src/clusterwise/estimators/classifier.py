"""The classifier: clusters, each with a multinomial logit, as scikit-learn has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from clusterwise.assembly.specify import Prior
from clusterwise.core.errors import DataError, OptionError
from clusterwise.core.random import RandomState
from clusterwise.covariates.density import AbstractDensity
from clusterwise.covariates.family import FamilyCovariates
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.engines.engine import AbstractEngine
from clusterwise.engines.registry import resolve_engine
from clusterwise.estimators.base import WEIGHT, AbstractClusterwise
from clusterwise.model import Model
from clusterwise.regression.structure import AbstractCoefficients, Ridge, resolve_coefficients
from clusterwise.responses.categorical import Categorical
from clusterwise.weights.specification import AbstractWeights, resolve_weights

_FINITE, _TRUNCATION = 2, 20


class ClusterwiseClassifier(ClassifierMixin, AbstractClusterwise):
    """Mixture of multinomial logits: clusters that nobody labelled, each with its own classifier.

    With `weights="dirichlet_process"` it is the Dirichlet-process mixture of Shahbaba and Neal
    (2009), at a finite truncation. In every cluster features are normal and independent; their
    means are normal about a mean over clusters, likewise the logarithms of their standard
    deviations, and the means and standard deviations of that are learned. Every class has its own
    coefficients, normal about zero with a standard deviation of the cluster's that is learned, one
    for the intercepts and one for the slopes. So is the concentration. Scales have half-Cauchy
    priors where the paper has log-normal ones, and features are standardised.

    Boundaries between classes bend where clusters meet, and classes need not be the clusters.
    Predictions are averages over the draws of the sampler, in each of which the components without
    rows are fresh ones from the base measure. Components are numbered from 0, the largest weight
    first.

    Parameters
    ----------
    n_components : int or None, default=None
        Number of clusters, or the truncation of a process; None: 2 clusters, or 20.
    covariates : {"hierarchical", True, False}, default="hierarchical"
        Density of X in each cluster: as above, or Gaussian with `covariance_type`, or none: then
        weights are the same for all X, and with single outcomes clusters can be told apart by
        little.
    covariance_type : {"full", "diag", "spherical", "tied"}, default="full"
        Covariance of X in each cluster; of use with `covariates=True` only.
    coefficients : str or coefficients object, default="ridge"
        "ridge" as above, which is `Ridge(intercepts=True)`, "hierarchical" (pooled over clusters),
        "horseshoe" (sparse), "independent", or `Ridge`, `Hierarchical`, `Horseshoe`.
    weights : str or weights object, default="dirichlet"
        "dirichlet", "dirichlet_process", "pitman_yor", or `Dirichlet`, `DirichletProcess`,
        `PitmanYor`, `KnownWeights`.
    engine : str or engine, default="gibbs"
        "gibbs" or "nuts" for draws, "vi" or "svi" for approximations in a fraction of the time,
        whose probabilities are those at the point estimates; "em" with
        `coefficients="independent"` and `covariates` a bool only, since learned scales have no
        mode.
    prior : str or dict, default="default"
        "default", "flat" (maximum likelihood, `engine="em"` only), or a dictionary with the keys
        "y" and "covariates"; see `Model`.
    fit_intercept : bool, default=True
        Whether each cluster's classes have intercepts.
    random_state : int, RandomState, Generator or None, default=None
        Seed of starting values and of draws.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    weights_ : ndarray of shape (n_components,)
        Mixing weights.
    coef_ : ndarray of shape (n_components, n_classes, n_features)
        Coefficients of each cluster and class. Differences between classes are what tells;
        with `prior="flat"` the first class has zeros.
    intercept_ : ndarray of shape (n_components, n_classes)
        Intercepts; zero without `fit_intercept`.
    labels_ : ndarray of shape (n_samples,)
        Most probable cluster of each row of the last call of `fit` or `partial_fit`.
    lower_bound_ : float
        What the engine maximised; NaN after a second `partial_fit`.
    n_iter_ : int
        Iterations of the engine, plus one for each later batch.
    converged_ : bool
        Whether the engine met its tolerance, on the first batch where there were several.
    fit_ : Fit
        The fit itself. Its columns are x0, x1, ... and y, the number of the class.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all text.

    References
    ----------
    Shahbaba and Neal (2009), Nonlinear Models Using Dirichlet Process Mixtures, Journal of Machine
    Learning Research 10; Hannah, Blei and Powell (2011), Journal of Machine Learning Research 12.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2)) + np.repeat([[-3, 0], [3, 0]], 150, axis=0)
    >>> y = np.where(X[:, 1] * X[:, 0] > 0, "same", "other")
    >>> classifier = cw.ClusterwiseClassifier(engine="vi", random_state=0).fit(X, y)
    >>> classifier.predict([[-3, 1], [3, 1]])
    array(['other', 'same'], dtype='<U5')
    >>> classifier.predict_proba([[-3, 1], [3, 1]]).shape
    (2, 2)
    """

    classes_: np.ndarray

    def __init__(
        self,
        n_components: int | None = None,
        *,
        covariates: bool | str = "hierarchical",
        covariance_type: str = "full",
        coefficients: str | AbstractCoefficients = "ridge",
        weights: str | AbstractWeights = "dirichlet",
        engine: str | AbstractEngine = "gibbs",
        prior: Prior = "default",
        fit_intercept: bool = True,
        random_state: RandomState = None,
    ) -> None:
        self.n_components = n_components
        self.covariates = covariates
        self.covariance_type = covariance_type
        self.coefficients = coefficients
        self.weights = weights
        self.engine = engine
        self.prior = prior
        self.fit_intercept = fit_intercept
        self.random_state = random_state

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each class given the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        columns = self._new(X)
        return np.asarray(self._estimate.predict(columns))

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Logarithm of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return np.log(self.predict_proba(X))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Most probable class given the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,)
            Of `classes_`.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    @property
    def _numeric(self) -> bool:
        return False

    def _coded(self, y: np.ndarray, weight: np.ndarray | None, *, reset: bool) -> np.ndarray:
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if reset:
            counted = classes if weight is None else np.unique(y[weight > 0])
            if len(counted) < 2:
                raise DataError(
                    f"y has one class, {', '.join(map(repr, map(str, counted)))}, in rows that "
                    f"count; {type(self).__name__} needs two classes or more."
                )
            if len(counted) < len(classes):
                lost = np.setdiff1d(classes, counted)[0]
                raise DataError(
                    f"y has the class '{lost}' in rows of weight zero only; leave these rows out."
                )
            self.classes_ = classes
            return codes
        strange = np.setdiff1d(classes, self.classes_)
        if len(strange):
            raise DataError(
                f"y has the class '{strange[0]}', which the rows that were fitted first do not "
                "have; fit all rows at once, or begin with rows of every class."
            )
        return np.searchsorted(self.classes_, y)

    def _density(self, terms: str) -> list[AbstractDensity] | None:
        if self.covariates == "hierarchical":
            return [FamilyCovariates(terms, "gaussian", "hierarchical")]
        if not isinstance(self.covariates, (bool, np.bool_)):
            raise OptionError(
                f"covariates={self.covariates!r} is not known; use 'hierarchical', True or False."
            )
        density = GaussianCovariates(terms, covariance_type=self.covariance_type)
        return [density] if self.covariates else None

    def _model(self, formula: str, terms: str, weighted: bool) -> Model:
        n_components = self.n_components
        if n_components is None:
            weights = resolve_weights(self.weights, _FINITE)
            n_components = _TRUNCATION if weights.truncated else _FINITE
        own = self.coefficients
        learned = resolve_coefficients(own).learned or self.covariates == "hierarchical"
        if learned and (self.prior == "flat" or resolve_engine(self.engine).seeks_mode):
            raise OptionError(
                "The scales that ClusterwiseClassifier learns by default have no mode for "
                "engine='em' and prior='flat'; use coefficients='independent' and covariates=True "
                "or False with them."
            )
        return Model(
            formula,
            family=Categorical(symmetric=self.prior != "flat"),
            n_components=n_components,
            covariates=self._density(terms),
            coefficients=Ridge(intercepts=True) if own == Ridge.name else own,
            weights=self.weights,
            prior=self.prior,
            sample_weight=WEIGHT if weighted else None,
        )

    def _keep_coefficients(self, terms: list[str]) -> None:
        found = self.fit_.coefficients
        n_classes = len(self.classes_)
        shape = (len(self.weights_), n_classes)
        self.coef_ = np.zeros((*shape, len(terms)))
        self.intercept_ = np.zeros(shape)
        for name, term in found.columns:
            own, i = found[name, term].to_numpy(), int(name.removeprefix("y="))
            if term == "Intercept":
                self.intercept_[:, i] = own
            else:
                self.coef_[:, i, terms.index(term)] = own
