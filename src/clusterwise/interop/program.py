"""A model over data as a NumPyro program, on the data's own scale."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array
from numpyro.distributions import transforms

from clusterwise.assembly.assemble import Assembled
from clusterwise.assembly.build import to_data_units
from clusterwise.assembly.layout import Layout, Part
from clusterwise.core.errors import OptionError
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.interop.mixture import MixtureOfRegressions
from clusterwise.posteriors.covariance import (
    AbstractCovariance,
    InverseGamma,
    InverseWishart,
    KnownCovariance,
)
from clusterwise.posteriors.dirichlet import DirichletPosterior
from clusterwise.posteriors.known_weights import KnownWeightsPosterior
from clusterwise.posteriors.matrix_normal import MatrixNormal
from clusterwise.regression.free import FreePrior
from clusterwise.responses.gaussian import Gaussian
from clusterwise.responses.tied_gaussian import TiedGaussian

_OBSERVED = "obs"
_GAUSSIAN = (Gaussian, GaussianCovariates)


class _Units(NamedTuple):
    """A part's prior on the data's scale, and the way to standard units."""

    mean: np.ndarray
    root: np.ndarray
    """Of the coefficients' covariance in units of the residual one."""
    matrix: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    covariance: AbstractCovariance
    location: Any
    """The user's distribution of coefficients or means, and of the dispersion; or None."""
    dispersion: Any


def make_program(assembled: Assembled) -> Callable[[], None]:
    """The program; see `Model.numpyro`."""
    layout, spec = assembled.prepared.layout, assembled.spec
    if layout.gate is not None:
        raise OptionError(
            f"numpyro() takes weights that are the same for all rows, not {spec.weights!r}; use "
            "engine='nuts', which samples the same model."
        )
    if len(spec.responses) > 1:
        raise OptionError(
            "numpyro() takes models of one response, and this has "
            f"{len(spec.responses)}; use cw.MixtureOfRegressions in a program of your own."
        )
    tied = [f for f in spec.forms if isinstance(f, TiedGaussian)]
    if tied:
        raise OptionError(
            "numpyro() writes coefficients that are each cluster's own, and this model shares or "
            "pools them (shared, coefficients); use cw.MixtureOfRegressions in a program of your "
            "own, or engine='nuts'."
        )
    strange = [f.__class__.__name__ for f in spec.forms if not isinstance(f, _GAUSSIAN)]
    if strange:
        raise OptionError(
            f"numpyro() writes Gaussian responses and densities only, and this model has "
            f"{', '.join(dict.fromkeys(strange))}."
        )
    if spec.groups is not None:
        raise OptionError(
            f"numpyro() gives every row a cluster of its own, and here rows share one by "
            f"groups={spec.groups!r}; fit with engine='nuts'."
        )
    if spec.flat:
        raise OptionError("numpyro() needs a proper prior, not prior='flat'.")
    lost = [name for name, count in assembled.encoder.missing.items() if count]
    if lost:
        raise OptionError(
            f"numpyro() takes complete rows, and values of {', '.join(map(repr, lost))} are "
            "missing; drop those rows, or fit by this library's engines."
        )
    problem = assembled.problem
    prior = problem.prior if problem.free_prior is None else problem.free_prior
    weights, *linear = prior.parts
    k = spec.n_components
    rows, row_weight = _rows(assembled)
    parts = [
        (part, _units(layout, part, prior))
        for part, prior in zip(layout.parts, linear, strict=True)
    ]
    responses = [(part, units) for part, units in parts if part.is_response]
    densities = [(part, units) for part, units in parts if not part.is_response]
    x_columns = [i for part, _ in densities for i in part.responses]
    location = np.array([layout.shift_of(i) for i in x_columns])
    scale = np.array([layout.scale_of(i) for i in x_columns])
    value = rows[:, x_columns] * scale + location
    to_standard = None
    if responses:
        part, units = responses[0]
        column = part.responses[0]
        to_standard = _standardiser(layout, part, units, x_columns, rows)
        y = rows[:, column] * layout.scale_of(column) + layout.shift_of(column)
        value = np.column_stack([value, y]) if x_columns else y
        location = np.append(location, layout.shift_of(column))
        scale = np.append(scale, layout.scale_of(column))
        if not x_columns:
            location, scale = location[0], scale[0]

    def program() -> None:
        log_probs = _sample_weights(weights, k)
        means, covariances = [], []
        for number, (_, units) in enumerate(densities):
            suffix = "" if len(densities) == 1 else f"_{number}"
            covariance = _sample_covariance(units, k, suffix)
            mean = _sample_means(units, covariance, k, suffix)
            own = 1 / units.scale
            means.append((mean - units.shift[0]) * own)
            covariances.append(covariance * own[:, None] * own)
        whole = _joined(means, covariances, k)
        base: dist.Distribution
        if to_standard is not None:
            _, units = responses[0]
            sigma = _sample_sigma(units, k)
            coefficients = _sample_coefficients(units, sigma, k)
            standard, design = to_standard(coefficients)
            base = MixtureOfRegressions(
                log_probs, standard, sigma / units.scale[0], *whole, design=design
            )
        else:
            assert whole[0] is not None
            base = dist.MixtureSameFamily(
                dist.Categorical(probs=log_probs), dist.MultivariateNormal(*whole)
            )
        affine = transforms.AffineTransform(jnp.asarray(location), jnp.asarray(scale))
        with ExitStack() as stack:
            stack.enter_context(numpyro.plate("rows", len(value)))
            if row_weight is not None:
                stack.enter_context(numpyro.handlers.scale(scale=jnp.asarray(row_weight)))
            numpyro.sample(
                _OBSERVED, dist.TransformedDistribution(base, affine), obs=jnp.asarray(value)
            )

    return program


def _standardiser(
    layout: Layout, part: Part, units: _Units, x_columns: list[int], rows: np.ndarray
) -> Callable[[Array], tuple[Array, np.ndarray | None]]:
    """From coefficients on the data's scale to those of standardised rows, with their design.

    Where the regressors are the constant and covariates that the model has a density of, they
    are coefficients of (1, x), and a row that is drawn has the response that goes with its x.
    Other regressors are those of the rows in the data.
    """
    raw = [layout.columns[i - 1].raw for i in x_columns]
    own = [layout.columns[i - 1].raw for i in part.regressors if i]
    (column,) = part.responses
    if part.regressors[:1] == (0,) and set(own) <= set(raw):
        location = np.array([layout.shift_of(i) for i in x_columns])
        scale = np.array([layout.scale_of(i) for i in x_columns])
        place = np.array([raw.index(i) for i in own], int)

        def of_covariates(coefficients: Array) -> tuple[Array, None]:
            slopes = jnp.zeros((coefficients.shape[0], len(raw)))
            slopes = slopes.at[:, place].set(coefficients[:, 1:])
            constant = coefficients[:, 0] + slopes @ location - layout.shift_of(column)
            standard = jnp.column_stack([constant, slopes * scale])
            return standard / layout.scale_of(column), None

        return of_covariates
    inverse = np.linalg.inv(units.matrix)
    design = rows[:, list(part.regressors)]

    def of_design(coefficients: Array) -> tuple[Array, np.ndarray]:
        return (coefficients - units.shift[:, 0]) / units.scale[0] @ inverse.T, design

    return of_design


def _rows(assembled: Assembled) -> tuple[np.ndarray, np.ndarray | None]:
    """Standardised rows of positive weight, and the weights where they are not all one."""
    source = assembled.prepared.source
    parts = []
    for i in range(source.n_blocks):
        packed = np.asarray(source.block(i).packed)
        flat = packed.transpose(0, 2, 1).reshape(-1, packed.shape[1])
        parts.append(flat[flat[:, -1] > 0])
    rows = np.concatenate(parts)
    weight = rows[:, -1]
    return rows[:, :-1], None if np.all(weight == 1) else weight


def _units(layout: Layout, part: Part, prior: MatrixNormal | FreePrior) -> _Units:
    location = dispersion = None
    if isinstance(prior, FreePrior):
        location, dispersion, prior = prior.location, prior.dispersion, prior.conjugate
    matrix, scale, shift = to_data_units(layout, part)
    mean = matrix @ np.asarray(prior.mean)[0] * scale + shift
    rows = matrix @ np.linalg.inv(np.asarray(prior.precision)[0]) @ matrix.T
    root = np.linalg.cholesky(rows)
    return _Units(mean, root, matrix, scale, shift, prior.covariance, location, dispersion)


def _for_each(distribution: Any, times: int, shape: tuple[int, ...]) -> dist.Distribution:
    """A user's distribution of `shape`, once for each cluster."""
    if distribution.event_shape == ():
        return distribution.expand((times, *shape)).to_event(len(shape) + 1)
    return distribution.expand((times,)).to_event(1)


def _sample(name: str, distribution: dist.Distribution) -> Array:
    return cast(Array, numpyro.sample(name, distribution))


def _sample_weights(prior: Any, k: int) -> Array:
    if isinstance(prior, KnownWeightsPosterior):
        return jnp.exp(jnp.asarray(prior.log_weights))
    if isinstance(prior, DirichletPosterior):
        return _sample("weights", dist.Dirichlet(jnp.asarray(prior.alpha)))
    gamma = prior.concentration
    concentration: Any = gamma.shape / gamma.rate
    if not gamma.known:
        concentration = numpyro.sample(
            "concentration", dist.Gamma(jnp.asarray(gamma.shape), jnp.asarray(gamma.rate))
        )
    step = prior.discount * np.arange(1, k)
    sticks = _sample(
        "sticks", dist.Beta(jnp.full(k - 1, 1 - prior.discount), concentration + step).to_event(1)
    )
    left = jnp.concatenate([jnp.ones(1), jnp.cumprod(1 - sticks)])
    weights = left * jnp.append(sticks, 1.0)
    numpyro.deterministic("weights", weights)
    return weights


def _variance(prior: AbstractCovariance, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shapes and rates (t, r) of inverse gamma variances on the data's scale."""
    if isinstance(prior, InverseGamma):
        shape, rate = np.asarray(prior.shape), np.asarray(prior.rate)
        return shape, rate * np.square(scale[: rate.shape[1]])
    assert isinstance(prior, InverseWishart)
    rate = np.asarray(prior.scale)[:, :, 0] / 2
    return np.asarray(prior.dof)[:, None] / 2, rate * np.square(scale)


def _sample_sigma(units: _Units, k: int) -> Array:
    if isinstance(units.covariance, KnownCovariance):
        known = np.sqrt(np.asarray(units.covariance.value)[:, 0, 0]) * units.scale[0]
        return jnp.broadcast_to(jnp.asarray(known), (k,))
    shape, rate = _variance(units.covariance, units.scale)
    if units.dispersion is not None:
        sigma = _sample("sigma", _for_each(units.dispersion, len(shape), ()))
        return jnp.broadcast_to(sigma.reshape(len(shape)), (k,))
    variance = dist.InverseGamma(jnp.asarray(shape[:, 0]), jnp.asarray(rate[:, 0]))
    root = transforms.PowerTransform(0.5)
    sigma = _sample("sigma", dist.TransformedDistribution(variance, root).to_event(1))
    return jnp.broadcast_to(sigma, (k,))


def _sample_coefficients(units: _Units, sigma: Array, k: int) -> Array:
    if units.location is not None:
        return _sample("coefficients", _for_each(units.location, k, units.mean.shape[:1]))
    root = sigma[:, None, None] * jnp.asarray(units.root)
    mean = jnp.broadcast_to(jnp.asarray(units.mean[:, 0]), (k, units.mean.shape[0]))
    prior = dist.MultivariateNormal(mean, scale_tril=root)
    return _sample("coefficients", prior.to_event(1))


def _sample_covariance(units: _Units, k: int, suffix: str) -> Array:
    """Covariances (k, d, d) on the data's scale."""
    prior, scale, d = units.covariance, units.scale, units.scale.size
    if isinstance(prior, KnownCovariance):
        known = np.asarray(prior.value) * np.outer(scale, scale)
        return jnp.broadcast_to(jnp.asarray(known), (k, d, d))
    if units.dispersion is not None and isinstance(prior, InverseWishart) and d > 1:
        own = _for_each(units.dispersion, prior.dof.shape[0], (d, d))
        return jnp.broadcast_to(_sample(f"covariance{suffix}", own), (k, d, d))
    if isinstance(prior, InverseWishart) and d > 1:
        matrix = np.asarray(prior.scale) * np.outer(scale, scale)
        covariance = _sample(
            f"covariance{suffix}",
            dist.InverseWishart(jnp.asarray(prior.dof), scale_matrix=jnp.asarray(matrix)).to_event(
                1
            ),
        )
        return jnp.broadcast_to(covariance, (k, d, d))
    shape, rate = _variance(prior, scale)
    if units.dispersion is not None:
        deviation = _sample(
            f"deviations{suffix}", _for_each(units.dispersion, len(shape), shape.shape[1:])
        )
        wide = jnp.broadcast_to(jnp.square(deviation), (k, d))
        numpyro.deterministic(f"covariance{suffix}", wide[:, :, None] * jnp.eye(d))
        return wide[:, :, None] * jnp.eye(d)
    variance = _sample(
        f"variances{suffix}", dist.InverseGamma(jnp.asarray(shape), jnp.asarray(rate)).to_event(2)
    )
    wide = jnp.broadcast_to(variance, (k, d))
    covariance = wide[:, :, None] * jnp.eye(d)
    numpyro.deterministic(f"covariance{suffix}", covariance)
    return covariance


def _sample_means(units: _Units, covariance: Array, k: int, suffix: str) -> Array:
    if units.location is not None:
        return _sample(f"means{suffix}", _for_each(units.location, k, units.mean.shape[1:]))
    root = jnp.linalg.cholesky(covariance) * units.root[0, 0]
    mean = jnp.broadcast_to(jnp.asarray(units.mean[0]), (k, units.scale.size))
    prior = dist.MultivariateNormal(mean, scale_tril=root)
    return _sample(f"means{suffix}", prior.to_event(1))


def _joined(
    means: list[Array], covariances: list[Array], k: int
) -> tuple[Array | None, Array | None]:
    """One density of independent ones."""
    if not means:
        return None, None
    sizes = [mean.shape[1] for mean in means]
    whole = jnp.zeros((k, sum(sizes), sum(sizes)))
    at = 0
    for size, own in zip(sizes, covariances, strict=True):
        whole = whole.at[:, at : at + size, at : at + size].set(own)
        at += size
    return jnp.concatenate(means, axis=1), whole
