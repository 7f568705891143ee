"""Priors as a user writes them, on the data's own scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clusterwise.core.errors import OptionError

Numbers = ArrayLike


@dataclass(frozen=True)
class Gamma:
    """Gamma(shape, rate) prior on a positive number, such as a concentration.

    Parameters
    ----------
    shape, rate
        Positive; the mean is shape / rate.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.DirichletProcess(concentration=cw.Gamma(2, 4)).concentration.rate
    4
    """

    shape: float
    rate: float

    def __post_init__(self) -> None:
        check_positive("Gamma", shape=self.shape, rate=self.rate)


@dataclass(frozen=True)
class Normal:
    """Normal prior on coefficients or means whose residual covariance is known.

    Parameters
    ----------
    mean
        Number or one number a coefficient.
    covariance
        Number (times the identity), one variance a coefficient, or a matrix.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.Model("y ~ x", family=cw.Gaussian(sigma=0.5), n_components=2,
    ...          prior={"y": cw.Normal(mean=0, covariance=10)}).n_components
    2
    """

    mean: Numbers
    covariance: Numbers

    def __post_init__(self) -> None:
        check_positive("Normal", covariance=diagonal_of(self.covariance))


@dataclass(frozen=True)
class NormalInverseGamma:
    """Conjugate prior of a Gaussian regression, or of a diagonal or spherical density.

    The variance is inverse gamma(shape, rate); given it, coefficients are normal with covariance
    `variance * covariance`.

    Parameters
    ----------
    mean
        Number or one number a coefficient.
    covariance
        Number (times the identity), one a coefficient, or a matrix; in units of the variance.
    shape, rate
        Of the inverse gamma; a number, or one a column of a diagonal density.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.NormalInverseGamma(mean=0, covariance=100, shape=2, rate=1).shape
    2
    """

    mean: Numbers
    covariance: Numbers
    shape: Numbers
    rate: Numbers

    def __post_init__(self) -> None:
        check_positive(
            "NormalInverseGamma",
            covariance=diagonal_of(self.covariance),
            shape=self.shape,
            rate=self.rate,
        )


@dataclass(frozen=True)
class NormalInverseWishart:
    """Conjugate prior of a Gaussian density with a full covariance.

    The covariance is inverse Wishart(degrees_of_freedom, scale); given it, the mean is normal
    with covariance `covariance / mean_precision`.

    Parameters
    ----------
    mean
        Number or one number a column.
    mean_precision
        How many observations the prior mean is worth.
    degrees_of_freedom
        Above the number of columns minus one.
    scale
        Number (times the identity), one a column, or a matrix.

    Examples
    --------
    >>> import clusterwise as cw
    >>> cw.NormalInverseWishart(0, 0.1, degrees_of_freedom=4, scale=1).mean_precision
    0.1
    """

    mean: Numbers
    mean_precision: float
    degrees_of_freedom: float
    scale: Numbers

    def __post_init__(self) -> None:
        check_positive(
            "NormalInverseWishart",
            mean_precision=self.mean_precision,
            degrees_of_freedom=self.degrees_of_freedom,
            scale=diagonal_of(self.scale),
        )


def check_positive(owner: str, **values: Any) -> None:
    """Refuse numbers that are not positive and finite, naming the argument."""
    for name, value in values.items():
        try:
            array = np.asarray(value, float)
        except (TypeError, ValueError) as error:
            raise OptionError(f"{owner}({name}=...) must be numbers, not {value!r}.") from error
        if not np.all(np.isfinite(array)) or not np.all(array > 0):
            raise OptionError(f"{owner}({name}=...) must be positive and finite, not {value!r}.")


def diagonal_of(value: Numbers) -> np.ndarray:
    """The diagonal of a covariance given as number, vector or matrix."""
    array = np.asarray(value)
    return np.diagonal(array) if array.ndim == 2 else array


def as_vector(value: Numbers, size: int, what: str) -> np.ndarray:
    """A vector from a number or a vector of the right length."""
    array = np.asarray(value, float)
    if array.ndim == 0:
        return np.full(size, float(array))
    if array.shape != (size,):
        raise OptionError(
            f"{what} has shape {array.shape}; give one number or {size}, one for each column."
        )
    return array


def as_matrix(value: Numbers, size: int, what: str) -> np.ndarray:
    """A symmetric positive definite matrix from a number, a diagonal or a matrix."""
    array = np.asarray(value, float)
    if array.ndim == 2:
        if array.shape != (size, size):
            raise OptionError(f"{what} has shape {array.shape}; it must be {(size, size)}.")
        if not np.allclose(array, array.T) or np.linalg.eigvalsh(array)[0] <= 0:
            raise OptionError(f"{what} must be symmetric and positive definite.")
        return array
    return np.diag(as_vector(array, size, what))
