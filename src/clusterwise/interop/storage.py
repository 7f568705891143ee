"""NumPyro distributions as plain values, to be saved with a model."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist

from clusterwise.core.errors import OptionError
from clusterwise.core.runtime import double_precision


def encode_distribution(distribution: Any) -> dict[str, Any]:
    """Name and arguments of a distribution that these define.

    Raises
    ------
    OptionError
        Where they do not, as for transformed or truncated distributions.
    """
    name = type(distribution).__name__
    given = distribution.get_args()
    arguments = {key: np.asarray(value).tolist() for key, value in given.items()}
    if getattr(dist, name, None) is type(distribution):
        for chosen in (arguments, *({k: v} for k, v in arguments.items())):
            if _same(name, chosen, distribution):
                return {"name": name, "arguments": chosen}
    raise OptionError(
        f"A prior that is a {name} cannot be saved; save fit.posterior instead, or use one of "
        "NumPyro's distributions that numbers define, such as Normal or Gamma."
    )


def decode_distribution(name: str, arguments: dict[str, Any]) -> dist.Distribution:
    """The distribution of this name and these arguments."""
    kind = getattr(dist, name)
    return kind(**{key: np.asarray(value) for key, value in arguments.items()})


@double_precision
def _same(name: str, arguments: dict[str, Any], other: dist.Distribution) -> bool:
    try:
        made = decode_distribution(name, arguments)
        draw = other.sample(jax.random.key(0), (3,))
        return bool(np.allclose(made.log_prob(draw), other.log_prob(draw)))
    except (TypeError, ValueError, AssertionError):
        return False
