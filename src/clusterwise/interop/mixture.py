"""A NumPyro distribution over rows of a mixture of regressions, the clusters summed out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array
from numpyro.distributions import Distribution, constraints

from clusterwise.core.errors import OptionError
from clusterwise.engines.rowwise import row_log_density


class MixtureOfRegressions(Distribution):
    """Rows of a mixture of regressions: a NumPyro distribution, the cluster summed out.

    A row is (x_1, ..., x_d, y) where `means` and `covariances` are given: the joint model
    p(x, y), its event of shape (d + 1,). Without them it is y alone given the `design`, its event
    a number. Parameters may have batch dimensions in front.

    Parameters
    ----------
    weights
        (..., k) mixing weights.
    coefficients
        (..., k, p) coefficients of each cluster's regression.
    sigma
        (..., k) residual standard deviations, or (..., 1) of all clusters.
    means, covariances
        (..., k, d) and (..., k, d, d), or (..., 1, d, d) of all clusters: the Gaussian density
        of x in each cluster. None for the conditional model.
    design
        (n, p) regressors of each row, which make n rows the last batch dimension. None for the
        joint model in which they are (1, x_1, ..., x_d).
    validate_args
        Whether NumPyro checks the parameters and values.

    Raises
    ------
    OptionError
        Where parameters that go together are missing or of the wrong shape.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, clusterwise as cw
    >>> rows = cw.MixtureOfRegressions(
    ...     weights=jnp.array([0.4, 0.6]),
    ...     coefficients=jnp.array([[0.0, 2.0], [1.0, -1.0]]),
    ...     sigma=jnp.array([0.1, 0.2]),
    ...     means=jnp.array([[-1.0], [1.0]]),
    ...     covariances=jnp.ones((2, 1, 1)),
    ... )
    >>> rows.event_shape, rows.sample(jax.random.key(0), (5,)).shape
    ((2,), (5, 2))
    """

    arg_constraints: dict[str, Any] = {  # noqa: RUF012 (as NumPyro declares it)
        "weights": constraints.simplex,
        "coefficients": constraints.independent(constraints.real, 2),
        "sigma": constraints.independent(constraints.positive, 1),
        "means": constraints.independent(constraints.real, 2),
        "covariances": constraints.independent(constraints.positive_definite, 1),
        "design": constraints.real_vector,
    }
    pytree_data_fields = (
        "weights",
        "coefficients",
        "sigma",
        "means",
        "covariances",
        "design",
    )

    def __init__(
        self,
        weights: ArrayLike,
        coefficients: ArrayLike,
        sigma: ArrayLike,
        means: ArrayLike | None = None,
        covariances: ArrayLike | None = None,
        design: ArrayLike | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.weights = jnp.asarray(weights)
        self.coefficients = jnp.asarray(coefficients)
        self.sigma = jnp.asarray(sigma)
        self.means = None if means is None else jnp.asarray(means)
        self.covariances = None if covariances is None else jnp.asarray(covariances)
        self.design = None if design is None else jnp.asarray(design)
        batch = self._check()
        event = () if self.means is None else (self.means.shape[-1] + 1,)
        super().__init__(batch, event, validate_args=validate_args)

    def _check(self) -> tuple[int, ...]:
        """The batch shape."""
        if (self.means is None) != (self.covariances is None):
            raise OptionError("MixtureOfRegressions takes means and covariances together.")
        if self.means is None and self.design is None:
            raise OptionError(
                "MixtureOfRegressions needs the regressors of each row: design=... for y given "
                "x, or means=... and covariances=... for the joint model."
            )
        k = self.weights.shape[-1] if self.weights.ndim else 0
        shapes = {"coefficients": (self.coefficients, 2), "sigma": (self.sigma, 1)}
        if self.means is not None and self.covariances is not None:
            shapes |= {"means": (self.means, 2), "covariances": (self.covariances, 3)}
        batches = [self.weights.shape[:-1]]
        for name, (value, rank) in shapes.items():
            shared = name in ("sigma", "covariances")
            if value.ndim < rank or value.shape[-rank] not in ((k, 1) if shared else (k,)):
                raise OptionError(
                    f"MixtureOfRegressions({name}=...) has shape {value.shape}; its dimension "
                    f"{-rank} must be that of the {k} weights."
                )
            batches.append(value.shape[:-rank])
        p = self.coefficients.shape[-1]
        if self.means is not None and self.covariances is not None:
            d = self.means.shape[-1]
            if self.covariances.shape[-2:] != (d, d):
                raise OptionError(
                    f"MixtureOfRegressions(covariances=...) has shape {self.covariances.shape}; "
                    f"for means of {d} columns it ends in {(d, d)}."
                )
        if self.design is not None:
            if self.design.ndim < 1 or self.design.shape[-1] != p:
                raise OptionError(
                    f"MixtureOfRegressions(design=...) has shape {self.design.shape}; its last "
                    f"dimension must be that of the coefficients, {p}."
                )
            batches.append(self.design.shape[:-1])
        elif self.means is not None and p != self.means.shape[-1] + 1:
            raise OptionError(
                f"MixtureOfRegressions has {p} coefficients of (1, x) and "
                f"{self.means.shape[-1]} columns of x; give design=... for other regressors."
            )
        try:
            return np.broadcast_shapes(*batches)
        except ValueError as error:
            raise OptionError(
                f"MixtureOfRegressions: batch dimensions {batches} do not go together."
            ) from error

    def get_args(self) -> dict[str, Any]:
        """The parameters that are given, for NumPyro to check."""
        given = super().get_args()
        return {name: value for name, value in given.items() if value is not None}

    @property
    def support(self) -> Any:
        """Numbers, or vectors of them in the joint model."""
        return constraints.real if self.means is None else constraints.real_vector

    @property
    def n_components(self) -> int:
        """Number of clusters."""
        return self.weights.shape[-1]

    def _quadratic(self) -> tuple[Array, Array]:
        """Constants (..., k) and factors (..., k, m, columns) of rows (design, x, y)."""
        p = self.coefficients.shape[-1]
        d = 0 if self.means is None else self.means.shape[-1]
        # Columns: the regressors, x, y; in the joint model x is among the regressors, after 1.
        columns = p + 1 if self.design is None else p + d + 1
        scaled = self.coefficients / self.sigma[..., None]
        shape = (*scaled.shape[:-1], 1, columns)
        factor = jnp.zeros(shape, scaled.dtype)
        factor = factor.at[..., 0, :p].set(-scaled)
        factor = factor.at[..., 0, -1].set(1 / self.sigma * jnp.ones_like(scaled[..., 0]))
        constant = jnp.log(self.weights) - jnp.log(self.sigma) - 0.5 * np.log(2 * np.pi)
        if self.means is None or self.covariances is None:
            return constant, factor
        root = jnp.linalg.cholesky(self.covariances)
        eye = jnp.broadcast_to(jnp.eye(d, dtype=root.dtype), root.shape)
        whitening = lax.linalg.triangular_solve(root, eye, left_side=True, lower=True)
        offset = -jnp.einsum("...ij,...j->...i", whitening, self.means)
        first = 1 if self.design is None else p
        own = jnp.zeros((*offset.shape, columns), offset.dtype)
        whitening = jnp.broadcast_to(whitening, (*offset.shape, d))
        own = own.at[..., first : first + d].set(whitening)
        log_det = jnp.sum(jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)), axis=-1)
        constant = constant - log_det - 0.5 * d * np.log(2 * np.pi)
        if self.design is None:
            own = own.at[..., 0].set(offset)
        else:
            # No column is the constant for certain: one more.
            own = jnp.concatenate([own, offset[..., None]], axis=-1)
            zero = jnp.zeros((*factor.shape[:-1], 1), factor.dtype)
            factor = jnp.concatenate([factor, zero], axis=-1)
        batch = np.broadcast_shapes(factor.shape[:-2], own.shape[:-2])
        parts = [jnp.broadcast_to(part, (*batch, *part.shape[-2:])) for part in (factor, own)]
        return constant, jnp.concatenate(parts, axis=-2)

    def _rows(self, value: Array) -> Array:
        """Rows (..., columns) as `_quadratic` has them."""
        if self.means is None:
            value = value[..., None]
        one = jnp.ones((*value.shape[:-1], 1), value.dtype)
        if self.design is None:
            return jnp.concatenate([one, value], axis=-1)
        batch = np.broadcast_shapes(value.shape[:-1], self.design.shape[:-1])
        parts = (self.design, value) if self.means is None else (self.design, value, one)
        return jnp.concatenate(
            [jnp.broadcast_to(part, (*batch, part.shape[-1])) for part in parts], axis=-1
        )

    def log_prob(self, value: ArrayLike, intermediates: Any = None) -> Array:
        """Log density of rows.

        Parameters
        ----------
        value
            (..., d + 1) rows of the joint model, or (..., n) responses.
        intermediates
            Not used; NumPyro's signature.
        """
        value = jnp.asarray(value)
        if self._validate_args:
            self._validate_sample(value)
        constant, factor = self._quadratic()
        rows = self._rows(value.astype(jnp.result_type(value, constant)))
        if constant.ndim == 1 and factor.ndim == 3:
            flat = rows.reshape(-1, rows.shape[-1]).T
            constant = jnp.broadcast_to(constant, factor.shape[:1])
            return row_log_density(constant, factor, flat).reshape(rows.shape[:-1])
        whitened = jnp.einsum("...kmc,...c->...km", factor, rows)
        score = constant - 0.5 * jnp.sum(jnp.square(whitened), axis=-1)
        return jax.nn.logsumexp(score, axis=-1)

    def sample(self, key: Array | None = None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw rows: the cluster, then x, then y."""
        assert key is not None
        shape = (*sample_shape, *self.batch_shape)
        label_key, x_key, y_key = jax.random.split(key, 3)
        label = jax.random.categorical(label_key, jnp.log(self.weights), shape=shape)

        def chosen(value: Array, rank: int) -> Array:
            k = self.n_components
            own = value.shape[value.ndim - rank + 1 :]
            wide = jnp.broadcast_to(value, (*shape, k, *own))
            index = label.reshape(*shape, 1, *(1,) * len(own))
            return jnp.squeeze(jnp.take_along_axis(wide, index, axis=len(shape)), len(shape))

        design, pieces = self.design, []
        if self.means is not None and self.covariances is not None:
            root = jnp.linalg.cholesky(self.covariances)
            noise = jax.random.normal(x_key, (*shape, self.means.shape[-1]))
            x = chosen(self.means, 2) + jnp.einsum("...ij,...j->...i", chosen(root, 3), noise)
            pieces.append(x)
            if design is None:
                design = jnp.concatenate([jnp.ones((*shape, 1), x.dtype), x], axis=-1)
        assert design is not None
        mean = jnp.sum(chosen(self.coefficients, 2) * design, axis=-1)
        y = mean + chosen(self.sigma, 1) * jax.random.normal(y_key, shape)
        return jnp.concatenate([*pieces, y[..., None]], axis=-1) if pieces else y

    @property
    def mean(self) -> Array:
        """Mean of a row."""
        if self.means is None or self.design is not None:
            predicted = jnp.einsum("...kp,...p->...k", self.coefficients, self.design)
        else:
            slopes = jnp.sum(self.coefficients[..., 1:] * self.means, axis=-1)
            predicted = self.coefficients[..., 0] + slopes
        y = jnp.sum(self.weights * predicted, axis=-1)
        if self.means is None:
            return y
        x = jnp.sum(self.weights[..., None] * self.means, axis=-2)
        shape = np.broadcast_shapes(x.shape[:-1], y.shape)
        x = jnp.broadcast_to(x, (*shape, x.shape[-1]))
        return jnp.concatenate([x, jnp.broadcast_to(y, shape)[..., None]], axis=-1)
