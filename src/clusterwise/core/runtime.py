"""How the library calls JAX: double precision and two or more programs at a time."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

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
def _quick_compiler_options() -> dict[str, bool] | None:
    """Options that make the compiler for CPUs quick, where this JAX knows them."""
    options = {"xla_cpu_use_fusion_emitters": False}
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0).compile()
    except Exception:  # what an unknown option raises differs between releases
        return None
    return options


class Program:
    """A jitted function that threads may call at once without compiling it more than once.

    Parameters
    ----------
    function
        A pure function of arrays.
    static_argnames
        Arguments that are part of the program.
    hot
        Whether it runs over rows often enough to be worth the compiler's best; others compile in
        half the time.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        static_argnames: tuple[str, ...] = (),
        hot: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._static_argnames = static_argnames
        self._hot = hot
        self._compiled: set[Hashable] = set()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def _call(self) -> Callable[..., Any]:
        return jax.jit(
            self._function,
            static_argnames=self._static_argnames,
            compiler_options=None if self._hot else _quick_compiler_options(),
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = jax.tree.flatten((args, kwargs))
        shapes = tuple((np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves)
        key = (structure, shapes)
        if key in self._compiled:
            return self._call(*args, **kwargs)
        with self._lock:
            lock, call = self._locks.setdefault(key, threading.Lock()), self._call
        # Different shapes may be compiled at once, on different cores.
        with lock:
            result = call(*args, **kwargs)
            self._compiled.add(key)
        return result


def n_cores() -> int:
    """Number of cores."""
    return os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_cores(), thread_name_prefix="clusterwise")


def parallel_map(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function to items on all cores; results keep the items' order.

    JAX releases the interpreter while a program runs, so threads suffice. A compiled program
    over rows in cache gains little from being split inside; two such programs side by side do.
    """
    # The precision setting of JAX belongs to a thread, so that each call sets it again.
    return list(_pool().map(double_precision(function), items))


def in_background(function: Callable[[], Any]) -> None:
    """Run a function beside what follows; for its effect on later calls, not for its result."""
    _pool().submit(double_precision(function))
