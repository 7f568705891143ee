"""How the library calls JAX: double precision and two or more programs at a time."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from types import MappingProxyType
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


class Effort(Enum):
    """What the compiler for CPUs leaves out, by how often a program will run.

    `LEAST` compiles in a quarter of the time of `MOST` and runs twice as long or a little more,
    `SOME` in half the time and runs at most a quarter longer.
    """

    MOST = MappingProxyType({})
    SOME = MappingProxyType(
        {"xla_cpu_use_fusion_emitters": False, "xla_llvm_disable_expensive_passes": True}
    )
    LEAST = MappingProxyType({**SOME, "xla_backend_optimization_level": 0})

    @functools.cached_property
    def options(self) -> dict[str, Any] | None:
        """Options for the compiler, where this JAX knows them."""
        if not self.value or jax.default_backend() != "cpu":
            return None
        options = dict(self.value)
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
    effort
        The compiler's. Few programs run over rows so often that more than the least pays.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        static_argnames: tuple[str, ...] = (),
        effort: Effort = Effort.LEAST,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._static_argnames = static_argnames
        self._effort = effort
        self._compiled: set[Hashable] = set()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    @functools.cached_property
    def _call(self) -> Callable[..., Any]:
        return jax.jit(
            self._function,
            static_argnames=self._static_argnames,
            compiler_options=self._effort.options,
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
