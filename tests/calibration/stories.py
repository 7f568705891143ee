"""The generative story in JAX, and quantities that no permutation of clusters changes.

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

_POINT = np.array([1.0, 0.5, -0.5, 0.3, 0.2])


def as_rows(values: Any, chunks: int = 2) -> RowBlock:
    """Rows (n, columns) as chunks, the last of them padded by a few rows."""
    n, columns = values.shape
    size = n // chunks + 3
    packed = jnp.zeros((chunks * size, columns + 1)).at[:n, :-1].set(values).at[:n, -1].set(1.0)
    # Padding that is not zero shows whether its weight is heeded.
    packed = packed.at[n:, :-1].set(jnp.arange(columns) + 1.0)
    packed = jnp.swapaxes(packed.reshape(chunks, size, columns + 1), 1, 2)
    return RowBlock(packed, jnp.asarray(chunks))


def simulate(block: Any, parameters: Any, values: Any, key: Any) -> Any:
    """Draw clusters, then the columns that some part models; the others stay as they are."""
    label_key, *keys = jax.random.split(key, len(block.blocks))
    weights, *linear = parameters.parts
    labels = jax.random.categorical(label_key, _log_weights(block, weights, values))
    # Covariates are before the responses that regress on them.
    for part, value, own in zip(block.blocks[1:], linear, keys, strict=True):
        q = len(part.responses)
        mean = jnp.einsum("np,npq->nq", values[:, part.regressors], value.coefficients[labels])
        root = jnp.linalg.cholesky(value.covariance)
        root = root[labels if root.shape[0] > 1 else jnp.zeros_like(labels)]
        noise = jnp.einsum("nij,nj->ni", root, jax.random.normal(own, (values.shape[0], q)))
        values = values.at[:, part.responses].set(mean + noise)
    return values


def log_densities(block: Any, parameters: Any, values: Any) -> list[Any]:
    """(n, k) log density of each part, the weights first."""
    weights, *linear = parameters.parts
    k = weights.log_weights.shape[0]
    found = [_log_weights(block, weights, values)]
    for part, value in zip(block.blocks[1:], linear, strict=True):
        q = len(part.responses)
        mean = jnp.einsum("np,kpq->nkq", values[:, part.regressors], value.coefficients)
        error = values[:, None, part.responses] - mean
        precision = jnp.broadcast_to(jnp.linalg.inv(value.covariance), (k, q, q))
        log_det = jnp.broadcast_to(jnp.linalg.slogdet(value.covariance)[1], (k,))
        distance = jnp.einsum("nki,kij,nkj->nk", error, precision, error)
        found.append(-0.5 * (distance + log_det + q * jnp.log(2 * jnp.pi)))
    return found


def _log_weights(block: Any, weights: Any, values: Any) -> Any:
    """(n, k) log weights of rows."""
    k = weights.log_weights.shape[0]
    if not isinstance(weights, (SoftmaxGates, StickGates)):
        return jnp.broadcast_to(weights.log_weights, (values.shape[0], k))
    eta = values[:, block.blocks[0].columns] @ weights.values.T
    if isinstance(weights, SoftmaxGates):
        return jax.nn.log_softmax(eta, axis=1)
    left = jnp.cumsum(jax.nn.log_sigmoid(-eta), axis=1)
    found = jnp.pad(left, ((0, 0), (1, 0)))
    return found.at[:, :-1].add(jax.nn.log_sigmoid(eta))


def concentration_is_learned(prior: Any) -> bool:
    """Whether the weights are those of a process of unknown concentration."""
    concentration = getattr(prior.parts[0], "concentration", None)
    return concentration is not None and not concentration.known


def _weights_are_known(prior: Any) -> bool:
    return isinstance(prior.parts[0], KnownWeightsPosterior)


def _of_parameters(block: Any, prior: Any, parameters: Any) -> dict[str, Any]:
    weights, *linear = parameters.parts
    found = {}
    if isinstance(weights, (SoftmaxGates, StickGates)):
        gates = weights.values
        found["squared gates"] = jnp.square(gates).sum()
        slopes = linear[0].coefficients[: len(gates), 1, 0]
        found["gates times coefficients"] = (gates[:, 1] * slopes).sum()
    elif not _weights_are_known(prior):
        found["largest weight"] = weights.log_weights.max()
        found["sum of squared weights"] = jnp.exp(2 * weights.log_weights).sum()
    if concentration_is_learned(prior):
        found["concentration"] = jnp.log(weights.concentration)
    for part, value, own in zip(block.blocks[1:], linear, prior.parts[1:], strict=True):
        what = "x" if part.responses == (1, 2) else f"y{part.responses[0] - 2}"
        found[f"squared coefficients of {what}"] = jnp.square(value.coefficients).sum()
        if not hasattr(own.covariance, "value"):
            found[f"dispersion of {what}"] = jnp.linalg.slogdet(value.covariance)[1].mean()
    return found


def quantities(
    block: Any, prior: Any, parameters: Any, values: Any, point: np.ndarray = _POINT
) -> dict[str, Any]:
    """What is ranked in simulation-based calibration; `point` is a row to predict."""
    score = sum(log_densities(block, parameters, values))
    log_likelihood = jax.nn.logsumexp(score, axis=1).sum()
    resp = jax.nn.softmax(score, axis=1)
    at_point = log_densities(block, parameters, jnp.asarray(point)[None])
    found = {
        "log likelihood": log_likelihood,
        "log joint density": log_likelihood + prior.log_prob(parameters),
        "rows 0 and 1 in one cluster": resp[0] @ resp[1],
        "density at a point": jax.nn.logsumexp(sum(at_point)),
    }
    gate = at_point[0]
    linear = zip(block.blocks[1:], parameters.parts[1:], at_point[1:], strict=True)
    for part, value, own in linear:
        if part.responses == (1, 2):
            gate = gate + own
        elif part.responses == (3,):
            mean = value.coefficients[:, :, 0] @ point[list(part.regressors)]
            found["prediction at a point"] = jax.nn.softmax(gate[0]) @ mean
    return found | _of_parameters(block, prior, parameters)


def moments(block: Any, prior: Any, parameters: Any, values: Any) -> dict[str, Any]:
    """Test functions of Geweke's comparison, and their squares.

    Sticks have an order, so that the first and the last weight are compared too. Two functions
    join parameters and rows: a sweep that takes weights for those of other clusters keeps the
    distribution of the parameters alone.
    """
    score = sum(log_densities(block, parameters, values))
    resp = jax.nn.softmax(score, axis=1)
    log_weights = parameters.parts[0].log_weights
    found = _of_parameters(block, prior, parameters)
    found = {name: value for name, value in found.items() if "coefficients" not in name}
    found["log likelihood"] = jax.nn.logsumexp(score, axis=1).mean()
    found["rows 0 and 1 in one cluster"] = resp[0] @ resp[1]
    if not _weights_are_known(prior):
        found["first weight"] = jnp.exp(log_weights[0])
        found["last weight"] = jnp.exp(log_weights[-1])
    linear = zip(block.blocks[1:], parameters.parts[1:], strict=True)
    for part, value in linear:
        what = "x" if part.responses == (1, 2) else f"y{part.responses[0] - 2}"
        found[f"coefficients of {what}"] = value.coefficients[:, -1, -1].mean()
        found[f"absolute coefficients of {what}"] = jnp.abs(value.coefficients).mean()
    return found | {f"{name}, squared": jnp.square(value) for name, value in found.items()}
