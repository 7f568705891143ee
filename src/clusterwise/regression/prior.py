"""Priors of linear Gaussian blocks: the default, the flat one, and a user's in standard units."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from clusterwise.core.arrays import constant
from clusterwise.core.errors import OptionError
from clusterwise.posteriors.covariance import (
    AbstractCovariance,
    InverseGamma,
    InverseWishart,
    KnownCovariance,
)
from clusterwise.posteriors.matrix_normal import MatrixNormal
from clusterwise.posteriors.specification import (
    Normal,
    NormalInverseGamma,
    NormalInverseWishart,
    as_matrix,
    as_vector,
)

COVARIANCE_TYPES = ("full", "diag", "spherical", "tied")

_COEFFICIENT_ROWS = 0.01
_VARIANCE_GUESS = 0.01
_FLAT = 1e-11
_LEAST_RESIDUAL = 1e-12


class ResponseSample(NamedTuple):
    """Some rows of a response on its own scale, and what goes with it."""

    response: np.ndarray
    """(n, q)"""
    trials: np.ndarray | None
    """(n,)"""
    offset: np.ndarray | None
    """(n,)"""
    weight: np.ndarray
    """(n,), how often each row counts."""

    @property
    def size(self) -> float:
        """Number of rows."""
        return float(self.weight.sum())

    @property
    def total(self) -> np.ndarray:
        """Sums (q,) of the response's columns."""
        return self.weight @ self.response

    @property
    def mean(self) -> float:
        """Mean of a response of one column."""
        return float(self.total[0] / self.size)

    @property
    def variance(self) -> float:
        """Variance of a response of one column."""
        return float(self.weight @ np.square(self.response[:, 0] - self.mean) / self.size)

    @property
    def least_mean(self) -> float:
        """The mean of counts, half a count where all are zero."""
        return max(self.mean, 0.5 / self.size)

    @property
    def exposure(self) -> float:
        """By how much the offset raises the mean under a logarithmic link."""
        return 1.0 if self.offset is None else float(self.weight @ np.exp(self.offset) / self.size)

    @property
    def mean_offset(self) -> float:
        """Mean of the offset."""
        return 0.0 if self.offset is None else float(self.weight @ self.offset / self.size)


class LinearFrame(NamedTuple):
    """What a linear Gaussian block sees of the data, in standard units.

    `pooled_gram` is the average over rows of (regressors, responses) times themselves.
    Coefficients on the data's scale are `to_data @ standard * response_scale + shift`.
    """

    pooled_gram: np.ndarray
    n_regressors: int
    to_data: np.ndarray
    response_scale: np.ndarray
    shift: np.ndarray
    n_components: int
    has_intercept: bool = True
    sample: ResponseSample | None = None

    @property
    def pooled_coefficients(self) -> np.ndarray:
        p = self.n_regressors
        return np.linalg.solve(self.pooled_gram[:p, :p], self.pooled_gram[:p, p:])

    @property
    def pooled_residuals(self) -> np.ndarray:
        p = self.n_regressors
        total = self.pooled_gram[p:, p:]
        explained = self.pooled_gram[p:, :p] @ self.pooled_coefficients
        # A response that is an exact function of the regressors leaves rounding only.
        return total - explained + np.diag(_LEAST_RESIDUAL * np.diagonal(total))


class LinearOptions(NamedTuple):
    """Form of the residual covariance: its type, whether clusters share it, or its value."""

    what: str
    covariance_type: str
    shared: bool
    known: Any


def linear_prior(frame: LinearFrame, options: LinearOptions, prior: Any) -> MatrixNormal:
    """Prior of a block; `prior` is "default", "flat" or one of the user's specifications.

    The default is centred at the regression of all rows and worth a hundredth of a row, so that
    it moves with any linear change of the regressors and responses.
    """
    if isinstance(prior, str):
        weak = _COEFFICIENT_ROWS if prior == "default" else _FLAT
        p = frame.n_regressors
        precision = weak * frame.pooled_gram[:p, :p]
        covariance = _weak_covariance(frame, options, flat=prior == "flat")
        return _for_clusters(frame, frame.pooled_coefficients, precision, covariance)
    mean, precision, covariance = _explicit(frame, options, prior)
    return _for_clusters(frame, mean, precision, covariance)


def _for_clusters(
    frame: LinearFrame, mean: np.ndarray, precision: np.ndarray, covariance: AbstractCovariance
) -> MatrixNormal:
    k = frame.n_components
    return MatrixNormal(
        constant(np.broadcast_to(mean, (k, *mean.shape))),
        constant(np.broadcast_to(precision, (k, *precision.shape))),
        covariance,
    )


def _n_covariances(frame: LinearFrame, options: LinearOptions) -> int:
    return 1 if options.shared else frame.n_components


def _known(frame: LinearFrame, options: LinearOptions) -> np.ndarray:
    q = frame.response_scale.size
    value = as_matrix(options.known, q, f"The known covariance of {options.what}")
    return value / np.outer(frame.response_scale, frame.response_scale)


def _weak_covariance(frame: LinearFrame, options: LinearOptions, flat: bool) -> AbstractCovariance:
    t, q = _n_covariances(frame, options), frame.response_scale.size
    if options.known is not None:
        value = _known(frame, options)
        return KnownCovariance(constant(np.broadcast_to(value, (1, q, q))))
    residuals = frame.pooled_residuals
    guess = 1.0 if flat else _VARIANCE_GUESS
    if options.covariance_type == "full":
        dof = _FLAT if flat else float(q)
        return InverseWishart(
            constant(np.full(t, dof)), constant(np.broadcast_to(dof * guess * residuals, (t, q, q)))
        )
    variances = np.diagonal(residuals)
    if options.covariance_type == "spherical":
        variances = variances.mean(keepdims=True)
    shape = (_FLAT if flat else 1.0) / 2
    return InverseGamma(
        constant(np.full((t, variances.size), shape)),
        constant(np.broadcast_to(shape * guess * variances, (t, variances.size))),
        q,
    )


def _explicit(
    frame: LinearFrame, options: LinearOptions, prior: Any
) -> tuple[np.ndarray, np.ndarray, AbstractCovariance]:
    p, q = frame.n_regressors, frame.response_scale.size
    what = f"The prior of {options.what}"
    if options.known is not None:
        accepted: type = Normal
    elif options.covariance_type == "full" and q > 1:
        accepted = NormalInverseWishart
    else:
        accepted = NormalInverseGamma
    wishart_of_one = isinstance(prior, NormalInverseWishart) and q == 1 and options.known is None
    if not isinstance(prior, accepted) and not wishart_of_one:
        form = "a known" if options.known is not None else f"a {options.covariance_type}"
        raise OptionError(
            f"{what} is {type(prior).__name__}; with {form} residual covariance it takes "
            f"cw.{accepted.__name__} (cw.Normal goes with a known sigma or covariance)."
        )
    # A density's prior is over its q means (one regressor), a regression's over p coefficients.
    mean = as_vector(prior.mean, max(p, q), f"{what}: mean").reshape(p, q)
    row_precision = _row_precision(prior, options, p, q, what)
    inverse = np.linalg.inv(frame.to_data)
    standard_mean = inverse @ (mean - frame.shift) / frame.response_scale
    standard_precision = frame.to_data.T @ row_precision @ frame.to_data
    return standard_mean, standard_precision, _explicit_covariance(frame, options, prior, what)


def _row_precision(prior: Any, options: LinearOptions, p: int, q: int, what: str) -> np.ndarray:
    """Precision of the coefficients in units of the residual variance."""
    if isinstance(prior, NormalInverseWishart):
        return np.eye(p) * prior.mean_precision
    if p > 1 or q == 1:
        precision = np.linalg.inv(as_matrix(prior.covariance, p, f"{what}: covariance"))
        if isinstance(prior, Normal):
            precision = precision * float(as_matrix(options.known, q, what)[0, 0])
        return precision
    own = as_matrix(prior.covariance, q, f"{what}: covariance")
    unit = as_matrix(options.known, q, what) if isinstance(prior, Normal) else np.eye(q)
    ratio = float(own[0, 0] / unit[0, 0])
    if not np.allclose(own, ratio * unit):
        raise OptionError(
            f"{what}: the covariance of the means must be a multiple of the density's own "
            "(of the identity for NormalInverseGamma)."
        )
    return np.eye(1) / ratio


def _explicit_covariance(
    frame: LinearFrame, options: LinearOptions, prior: Any, what: str
) -> AbstractCovariance:
    t, q = _n_covariances(frame, options), frame.response_scale.size
    scale = frame.response_scale
    if options.known is not None:
        return KnownCovariance(constant(np.broadcast_to(_known(frame, options), (1, q, q))))
    if isinstance(prior, NormalInverseWishart):
        if not prior.degrees_of_freedom > q - 1:
            raise OptionError(
                f"{what}: degrees_of_freedom={prior.degrees_of_freedom} must be above {q - 1}, the "
                "number of columns minus one."
            )
        matrix = as_matrix(prior.scale, q, f"{what}: scale") / np.outer(scale, scale)
        return InverseWishart(
            constant(np.full(t, float(prior.degrees_of_freedom))),
            constant(np.broadcast_to(matrix, (t, q, q))),
        )
    r = 1 if options.covariance_type == "spherical" else q
    shape = as_vector(prior.shape, r, f"{what}: shape")
    rate = as_vector(prior.rate, r, f"{what}: rate") / np.square(scale[:r])
    if q == 1:
        # One dimension is the inverse Wishart's, so that every block of one response is alike.
        return InverseWishart(
            constant(np.full(t, 2 * shape[0])), constant(np.full((t, 1, 1), 2 * rate[0]))
        )
    return InverseGamma(
        constant(np.broadcast_to(shape, (t, r))), constant(np.broadcast_to(rate, (t, r))), q
    )
