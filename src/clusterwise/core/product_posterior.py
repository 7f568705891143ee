"""Parameters of a product of blocks, and their independent posteriors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clusterwise.core.block import AbstractCoordinates, AbstractParameters, AbstractPosterior


class ProductParameters(AbstractParameters):
    """Parameters of each block of a product."""

    parts: tuple[Any, ...]

    def moments(self) -> tuple[Any, ...]:
        return tuple(part.moments() for part in self.parts)

    def mean_of_draws(self) -> ProductParameters:
        return ProductParameters(tuple(part.mean_of_draws() for part in self.parts))


class ProductCoordinates(AbstractCoordinates):
    """Coordinates of each block of a product, one after the other."""

    parts: tuple[AbstractCoordinates, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def constrain(self, z: Float[Array, " size"]) -> tuple[ProductParameters, Float[Array, ""]]:
        ends = np.cumsum([part.size for part in self.parts])
        pieces = jnp.split(z, ends[:-1])
        found = [part.constrain(own) for part, own in zip(self.parts, pieces, strict=True)]
        log_det = sum((own for _, own in found), jnp.zeros(()))
        return ProductParameters(tuple(value for value, _ in found)), log_det

    def unconstrain(self, parameters: ProductParameters) -> Float[Array, " size"]:
        pairs = zip(self.parts, parameters.parts, strict=True)
        return jnp.concatenate([part.unconstrain(value) for part, value in pairs])


class ProductPosterior(AbstractPosterior):
    """Independent posteriors of the blocks of a product."""

    parts: tuple[Any, ...]

    @property
    def label_groups(self) -> Int[np.ndarray, " k"]:
        """Group of each component: those of one group may change their numbers.

        Weights, which come first, tell components apart, and so do coefficients that some of them
        share.
        """
        groups = self.parts[0].label_groups
        kinds = self.component_kinds
        if kinds is None:
            return groups
        return np.unique(np.stack([groups, kinds]), axis=1, return_inverse=True)[1].ravel()

    @property
    def component_kinds(self) -> np.ndarray | None:
        kinds = [part.component_kinds for part in self.parts]
        told_apart = [own for own in kinds if own is not None]
        if not told_apart:
            return None
        return np.unique(np.stack(told_apart), axis=1, return_inverse=True)[1].ravel()

    def as_posterior(self) -> ProductPosterior:
        return ProductPosterior(tuple(part.as_posterior() for part in self.parts))

    @property
    def has_order(self) -> bool:
        """Whether weights are other ones where two clusters trade places."""
        return self.parts[0].has_order

    def moments(self) -> tuple[Any, ...]:
        return tuple(part.moments() for part in self.parts)

    def spread(self) -> tuple[Any, ...]:
        """What each part says of the spread of its parameters."""
        return tuple(part.spread() for part in self.parts)

    def predictive(self) -> tuple[Any, ...]:
        """Distribution of a new row: log probabilities of clusters, and each part's given one."""
        return tuple(part.predictive() for part in self.parts)

    def draw_order(
        self,
        count: Float[Array, " k"],
        log_weights: Float[Array, "k l"],
        moments: tuple[Any, ...],
        key: PRNGKeyArray,
    ) -> Int[Array, " k"] | None:
        """A draw of which cluster comes where, given what the weights see of the rows.

        None where that is left alone.
        """
        return self.parts[0].draw_order(count, log_weights, moments[0], key)

    def mode(self) -> ProductParameters:
        return ProductParameters(tuple(part.mode() for part in self.parts))

    def sample(self, key: PRNGKeyArray) -> ProductParameters:
        keys = jax.random.split(key, len(self.parts))
        draws = (part.sample(k) for part, k in zip(self.parts, keys, strict=True))
        return ProductParameters(tuple(draws))

    def log_prob(self, parameters: ProductParameters) -> Float[Array, ""]:
        pairs = zip(self.parts, parameters.parts, strict=True)
        return sum((part.log_prob(value) for part, value in pairs), jnp.zeros(()))

    def unnormalised_log_prob(self, parameters: ProductParameters) -> Float[Array, ""]:
        pairs = zip(self.parts, parameters.parts, strict=True)
        return sum((part.unnormalised_log_prob(value) for part, value in pairs), jnp.zeros(()))

    def coordinates(self) -> ProductCoordinates:
        return ProductCoordinates(tuple(part.coordinates() for part in self.parts))

    def log_kernel(self, parameters: ProductParameters) -> Float[Array, ""]:
        pairs = zip(self.parts, parameters.parts, strict=True)
        return sum((part.log_kernel(value) for part, value in pairs), jnp.zeros(()))

    def reordered(self, parameters: ProductParameters, order: Int[Array, " k"]) -> Any:
        """Parameters whose clusters trade places, but for their weights."""
        weights, *others = parameters.parts
        k = order.shape[0]

        def take(leaf: Array) -> Array:
            return leaf[order] if leaf.ndim and leaf.shape[0] == k else leaf

        return ProductParameters((weights, *jax.tree.map(take, others)))

    def kl(self, prior: ProductPosterior) -> Float[Array, ""]:
        pairs = zip(self.parts, prior.parts, strict=True)
        return sum((part.kl(other) for part, other in pairs), jnp.zeros(()))
