"""The generative story, and quantities that no permutation of clusters changes.

Written apart from the library's scores and samplers, from the definition of the model.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clusterwise.core.rows import RowBlock
from clusterwise.posteriors.gates import SoftmaxGates, StickGates
from clusterwise.posteriors.known_weights import KnownWeightsPosterior
from tests.calibration.parts import AbstractPart, namespace

GATING = (0, 1)  # columns that weights depend on, where they do
Parts = tuple[AbstractPart, ...]


def as_rows(values: Any, chunks: int = 2) -> RowBlock:
    """Rows (n, columns) as chunks, the last of them padded by a few rows."""
    n, columns = values.shape
    size = n // chunks + 3
    packed = jnp.zeros((chunks * size, columns + 1)).at[:n, :-1].set(values).at[:n, -1].set(1.0)
    # Padding that is not zero shows whether its weight is heeded.
    packed = packed.at[n:, :-1].set(jnp.arange(columns) + 1.0)
    packed = jnp.swapaxes(packed.reshape(chunks, size, columns + 1), 1, 2)
    return RowBlock(packed, jnp.asarray(chunks))


def draw_labels(weights: Any, values: Any, key: Any) -> Any:
    """Clusters of rows, in JAX, and a key for each part."""
    return jax.random.categorical(key, log_weights_of(weights, values))


def simulate_linear(parts: Any, parameters: Any, values: Any, key: Any) -> Any:
    """One data set: clusters, then the columns that linear Gaussian parts model, in JAX."""
    label_key, *keys = jax.random.split(key, 1 + len(parts))
    weights, *rest = parameters.parts
    labels = draw_labels(weights, values, label_key)
    # Covariates are before the responses that regress on them.
    for part, own, part_key in zip(parts, rest, keys, strict=True):
        values = part.simulate_one(own, values, labels, part_key)
    return values


def simulate(parts: Parts, parameters: Any, values: Any, keys: Any) -> np.ndarray:
    """Many data sets (size, n, columns): clusters, then the columns that some part models."""
    found = jax.vmap(lambda key: jax.random.split(key, 1 + len(parts)))(keys)
    weights, *rest = parameters.parts
    labels = jax.jit(jax.vmap(draw_labels))(weights, values, found[:, 0])
    for i, (part, own) in enumerate(zip(parts, rest, strict=True)):
        values = part.simulate(own, values, labels, found[:, i + 1])
    return np.asarray(values)


def log_weights_of(weights: Any, values: Any) -> Any:
    """(..., n, k) log weights of rows."""
    xp = namespace(values)
    if not isinstance(weights, (SoftmaxGates, StickGates)):
        return xp.broadcast_to(
            weights.log_weights[..., None, :],
            (*weights.log_weights.shape[:-1], values.shape[-2], weights.log_weights.shape[-1]),
        )
    eta = xp.einsum("...np,...kp->...nk", values[..., list(GATING)], weights.values)
    if isinstance(weights, SoftmaxGates):
        return eta - log_sum_exp(eta)[..., None]
    taken, left = -xp.logaddexp(0.0, -eta), xp.cumsum(-xp.logaddexp(0.0, eta), axis=-1)
    before = xp.concatenate([xp.zeros_like(left[..., :1]), left], axis=-1)
    return xp.concatenate([before[..., :-1] + taken, before[..., -1:]], axis=-1)


def log_sum_exp(values: Any) -> Any:
    """Over the last axis."""
    xp = namespace(values)
    most = values.max(axis=-1, keepdims=True)
    most = xp.where(xp.isfinite(most), most, 0.0)
    with np.errstate(divide="ignore"):
        return xp.log(xp.exp(values - most).sum(axis=-1)) + most[..., 0]


def log_densities(parts: Parts, parameters: Any, values: Any) -> list[Any]:
    """(..., n, k) log density of each part, the weights first."""
    weights, *rest = parameters.parts
    found = [log_weights_of(weights, values)]
    return found + [part.log_density(own, values) for part, own in zip(parts, rest, strict=True)]


def concentration_is_learned(prior: Any) -> bool:
    """Whether the weights are those of a process of unknown concentration."""
    concentration = getattr(prior.parts[0], "concentration", None)
    return concentration is not None and not concentration.known


def _weights_are_known(prior: Any) -> bool:
    return isinstance(prior.parts[0], KnownWeightsPosterior)


def _of_parameters(parts: Parts, prior: Any, parameters: Any) -> dict[str, Any]:
    weights, *rest = parameters.parts
    found = {}
    if isinstance(weights, (SoftmaxGates, StickGates)):
        gates = weights.values
        xp = namespace(gates)
        found["squared gates"] = xp.square(gates).sum(axis=(-2, -1))
        slopes = rest[0].coefficients[..., : gates.shape[-2], 1, 0]
        found["gates times coefficients"] = (gates[..., 1] * slopes).sum(axis=-1)
    elif not _weights_are_known(prior):
        xp = namespace(weights.log_weights)
        found["largest weight"] = weights.log_weights.max(axis=-1)
        found["sum of squared weights"] = xp.exp(2 * weights.log_weights).sum(axis=-1)
    if concentration_is_learned(prior):
        found["concentration"] = namespace(weights.concentration).log(weights.concentration)
    for part, own, own_prior in zip(parts, rest, prior.parts[1:], strict=True):
        found |= part.quantities(own, own_prior)
    return found


def quantities(
    parts: Parts, prior: Any, log_prior: Any, parameters: Any, values: Any, point: np.ndarray
) -> dict[str, np.ndarray]:
    """What is ranked in simulation-based calibration, in NumPy.

    Parameters
    ----------
    parts, prior
        Of the model.
    log_prior, parameters
        (...) prior density of the parameters, and these, arrays with leading axes (...).
    values
        (..., n, columns) rows.
    point
        A row to predict.
    """
    score = sum(log_densities(parts, parameters, values))
    log_likelihood = log_sum_exp(score).sum(axis=-1)
    first = np.exp(score[..., :2, :] - log_sum_exp(score[..., :2, :])[..., None])
    row = np.broadcast_to(point, (*(1,) * (values.ndim - 2), 1, point.size))
    at_point = log_densities(parts, parameters, row)
    found = {
        "log likelihood": log_likelihood,
        "log joint density": log_likelihood + log_prior,
        "rows 0 and 1 in one cluster": (first[..., 0, :] * first[..., 1, :]).sum(axis=-1),
        "density at a point": log_sum_exp(sum(at_point))[..., 0],
    }
    gate = at_point[0]
    for part, own, density in zip(parts, parameters.parts[1:], at_point[1:], strict=True):
        mean = part.mean(own, point)
        if mean is None:
            gate = gate + density
        elif "prediction at a point" not in found:
            share = np.exp(gate - log_sum_exp(gate)[..., None])[..., 0, :]
            found["prediction at a point"] = (share * mean).sum(axis=-1)
    return found | _of_parameters(parts, prior, parameters)


def moments(parts: Parts, prior: Any, parameters: Any, values: Any) -> dict[str, Any]:
    """Test functions of Geweke's comparison, and their squares; in JAX, for linear parts.

    Sticks have an order, so that the first and the last weight are compared too. Two functions
    join parameters and rows: a sweep that takes weights for those of other clusters keeps the
    distribution of the parameters alone.
    """
    score = sum(log_densities(parts, parameters, values))
    resp = jax.nn.softmax(score, axis=1)
    log_weights = parameters.parts[0].log_weights
    found = _of_parameters(parts, prior, parameters)
    found = {name: value for name, value in found.items() if "coefficients" not in name}
    found["log likelihood"] = jax.nn.logsumexp(score, axis=1).mean()
    found["rows 0 and 1 in one cluster"] = resp[0] @ resp[1]
    if not _weights_are_known(prior):
        found["first weight"] = jnp.exp(log_weights[0])
        found["last weight"] = jnp.exp(log_weights[-1])
    for part, value in zip(parts, parameters.parts[1:], strict=True):
        found[f"coefficients of {part.what}"] = value.coefficients[:, -1, -1].mean()
        absolute = jnp.abs(value.coefficients).mean()
        found[f"absolute coefficients of {part.what}"] = absolute
    return found | {f"{name}, squared": jnp.square(value) for name, value in found.items()}
