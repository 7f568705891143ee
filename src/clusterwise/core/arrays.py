"""Constants for compiled programs."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from jaxtyping import Array


def constant(value: Any) -> Array:
    """A NumPy array, typed as the JAX array that a program makes of it.

    Programs take either; making a JAX array outside of one compiles a program of its own.
    """
    return cast(Array, np.asarray(value))
