"""Priors of a linear Gaussian block that are any NumPyro distributions, on the data's own scale.

Only sampling of the joint density can take them. What an entry leaves out keeps its conjugate
prior.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from clusterwise.core.arrays import constant
from clusterwise.core.errors import OptionError
from clusterwise.posteriors.covariance import InverseGamma, KnownCovariance
from clusterwise.posteriors.matrix_normal import LinearParameters, MatrixNormal
from clusterwise.regression.prior import LinearFrame

RESPONSE_ENTRIES = ("coefficients", "sigma")
DENSITY_ENTRIES = ("means", "covariance", "sigma")
_DRAWS = 64


class FreePrior(eqx.Module):
    """NumPyro distributions of some parameters, and the conjugate prior of the others.

    Coefficients on the data's scale are `to_data @ standard * scale + shift`. `location` is of
    coefficients or means; `dispersion` of standard deviations, or of covariance matrices.
    """

    conjugate: MatrixNormal
    location: Any
    dispersion: Any
    to_data: Float[Array, "p p"]
    scale: Float[Array, " q"]
    shift: Float[Array, "p q"]
    of_deviations: bool = eqx.field(static=True)

    @property
    def component_kinds(self) -> None:
        """None: clusters have no order before the fit, so that all are alike."""
        return None

    def unnormalised_log_prob(self, parameters: LinearParameters) -> Float[Array, ""]:
        """Log density of parameters in standard units, up to a constant."""
        covariance = parameters.covariance
        if self.location is None:
            total = self.conjugate.unnormalised_coefficients_log_prob(parameters)
        else:
            own = self.to_data @ parameters.coefficients * self.scale + self.shift
            # One regressor, the constant, or one response: vectors either way.
            vectors = own[:, 0, :] if own.shape[1] == 1 and own.shape[2] > 1 else own[:, :, 0]
            total = _inside(self.location, vectors)
        if self.dispersion is None:
            return total + self.conjugate.covariance.unnormalised_log_prob(covariance)
        if not self.of_deviations:
            matrix = covariance * self.scale[:, None] * self.scale
            return total + _inside(self.dispersion, matrix)
        variance = jnp.diagonal(covariance, axis1=1, axis2=2)
        if isinstance(self.conjugate.covariance, InverseGamma):
            variance = variance[:, : self.conjugate.covariance.shape.shape[1]]
        deviation = jnp.sqrt(variance) * self.scale[: variance.shape[1]]
        # The parameter is the variance: d sigma / d variance is 1 / (2 sigma).
        return total + _inside(self.dispersion, deviation) - 0.5 * jnp.sum(jnp.log(variance))


def _inside(distribution: Any, value: Array) -> Float[Array, ""]:
    """Summed log density, minus infinity outside of the support."""
    density = distribution.log_prob(value)
    return jnp.sum(jnp.where(distribution.support(value), density, -jnp.inf))


def is_free(prior: Any) -> bool:
    """Whether a user's prior is a dictionary of distributions."""
    return isinstance(prior, Mapping)


def is_distribution(value: Any) -> bool:
    """Whether a value is a NumPyro distribution, without importing NumPyro."""
    numpyro = sys.modules.get("numpyro.distributions")
    return numpyro is not None and isinstance(value, numpyro.Distribution)


def check_free(name: str, prior: Mapping[str, Any]) -> None:
    """Refuse entries that are not NumPyro distributions."""
    known = DENSITY_ENTRIES if name == "covariates" else RESPONSE_ENTRIES
    for entry, value in prior.items():
        if entry not in known:
            raise OptionError(
                f"prior[{name!r}] names {entry!r}; it takes {', '.join(map(repr, known))}."
            )
        if not is_distribution(value):
            raise OptionError(
                f"prior[{name!r}][{entry!r}] is {value!r}; give a NumPyro distribution such as "
                "numpyro.distributions.Normal(0, 10)."
            )
    if {"covariance", "sigma"} <= set(prior):
        raise OptionError(f"prior[{name!r}] takes 'covariance' or 'sigma', not both.")


def free_prior(
    name: str, frame: LinearFrame, conjugate: MatrixNormal, prior: Mapping[str, Any]
) -> FreePrior:
    """The prior of a block, its distributions checked against the block's parameters.

    Parameters
    ----------
    name
        The response's name, or "covariates".
    frame
        The block's units.
    conjugate
        Prior of what `prior` leaves out.
    prior
        Distributions by entry.
    """
    is_density = name == "covariates"
    p, q = conjugate.mean.shape[1:]
    location = prior.get("means" if is_density else "coefficients")
    if location is not None:
        size = q if is_density else p
        what = f"prior[{name!r}][{'means' if is_density else 'coefficients'!r}]"
        _check_shape(what, location, (size,), "real numbers", _is_real)
    covariance, sigma = prior.get("covariance"), prior.get("sigma")
    own = conjugate.covariance
    if (covariance is not None or sigma is not None) and isinstance(own, KnownCovariance):
        raise OptionError(f"prior[{name!r}]: the covariance is known and needs no prior.")
    if sigma is not None:
        full = not isinstance(own, InverseGamma) and q > 1
        if full:
            raise OptionError(
                f"prior[{name!r}]['sigma'] goes with covariance_type 'diag' or 'spherical'; give "
                "'covariance', a distribution of matrices."
            )
        r = own.shape.shape[1] if isinstance(own, InverseGamma) else 1
        _check_shape(f"prior[{name!r}]['sigma']", sigma, (r,), "positive numbers", _is_positive)
    if covariance is not None:
        if isinstance(own, InverseGamma):
            raise OptionError(
                f"prior[{name!r}]['covariance'] goes with covariance_type 'full' or 'tied'; give "
                "'sigma', a distribution of standard deviations."
            )
        _check_shape(
            f"prior[{name!r}]['covariance']", covariance, (q, q), "covariances", _is_covariance
        )
    return FreePrior(
        conjugate,
        location,
        sigma if covariance is None else covariance,
        constant(frame.to_data),
        constant(frame.response_scale),
        constant(frame.shift),
        covariance is None,
    )


def _is_real(draws: np.ndarray) -> bool:
    return bool(np.isfinite(draws).all())


def _is_positive(draws: np.ndarray) -> bool:
    return bool((draws >= 0).all())


def _is_covariance(draws: np.ndarray) -> bool:
    return bool(np.allclose(draws, np.swapaxes(draws, -1, -2), rtol=1e-4)) and bool(
        (np.linalg.eigvalsh(draws) > 0).all()
    )


def _check_shape(
    what: str, distribution: Any, shape: tuple[int, ...], kind: str, fits: Any
) -> None:
    """Refuse a distribution of another shape or support; clusters share it."""
    event = tuple(distribution.event_shape)
    whole = (*distribution.batch_shape, *event)
    try:
        broadcast = np.broadcast_shapes(whole, shape)
    except ValueError:
        broadcast = None
    if broadcast != shape or event not in ((), shape) or (len(shape) == 2 and event != shape):
        raise OptionError(
            f"{what} has batch shape {tuple(distribution.batch_shape)} and event shape {event}; "
            f"together they must be {shape}, or a number for all. Clusters have no order before "
            "the fit, so they share the prior."
        )
    try:
        draws = np.asarray(distribution.sample(jax.random.key(0), (_DRAWS,)))
    except TypeError as error:
        raise OptionError(
            f"{what} cannot be sampled from ({error}); NumPyro takes arrays, not lists: write "
            "jnp.array([...])."
        ) from error
    negative = fits is _is_positive and bool(np.any(distribution.support(-np.ones(whole))))
    if distribution.is_discrete or negative or not fits(draws):
        raise OptionError(f"{what} is not a distribution of {kind}; give one that is.")
