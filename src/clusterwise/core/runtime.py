"""How the library calls JAX: double precision and two or more programs at a time."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def double_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with 64-bit JAX numbers, leaving the user's configuration alone."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapped


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="clusterwise")


def parallel_map(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function to items on all cores; results keep the items' order.

    JAX releases the interpreter while a program runs, so threads suffice. A compiled program
    over rows in cache gains little from being split inside; two such programs side by side do.
    """
    # The precision setting of JAX belongs to a thread, so that each call sets it again.
    return list(_pool().map(double_precision(function), items))
