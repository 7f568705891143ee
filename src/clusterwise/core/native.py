"""Machine code that XLA's programs for CPUs call: the pass over rows of a Gibbs sweep.

XLA makes one kernel of each operation, and the numbers between them go through memory; here a
few hundred rows go through all of it while they are in cache. Compiled by Numba when first used
and kept on disk; XLA hands its buffers over as a call frame of its foreign function interface,
whose layout `_handler` knows.
"""

# Numba types what it compiles, and pyright does not know its intrinsics.
# pyright: reportPrivateImportUsage=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import functools
from math import factorial, log

import jax
import numba as nb
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt32
from numba.extending import intrinsic

from clusterwise.core.rows import RowBlock

_TARGET = "clusterwise_sample_rows"
_ROWS = 1024
_LANES = 32
_LOG2_E = 1 / log(2)
# Cody and Waite (1980): ln 2 in two parts, the first with trailing zeros.
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_ROUND = 1.5 * 2.0**52
_LEAST = -700.0
_TAYLOR = tuple(1.0 / factorial(i) for i in range(13))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53
_LOGS_AT_ONCE = 32

_options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "cache": True}
_compiled = nb.njit(**_options)
_reordering = nb.njit(**{**_options, "fastmath": {"contract", "reassoc"}})


@_compiled
def _score(constant, factor, rows, n, whitened, score):
    """Score n rows under one cluster: constant - |factor z|^2 / 2."""
    m, columns = factor.shape
    used = np.empty(columns, np.int64)
    for i in range(n):
        score[i] = constant
    for j in range(m):
        f = factor[j]
        n_used = 0
        for p in range(1, columns):
            if f[p] != 0.0:
                used[n_used] = p
                n_used += 1
        for i in range(n):
            whitened[i] = f[0]
        if n_used % 2:
            a, x = f[used[0]], rows[used[0]]
            for i in range(n):
                whitened[i] += a * x[i]
        for at in range(n_used % 2, n_used, 2):
            p, q = used[at], used[at + 1]
            a, b, x, y = f[p], f[q], rows[p], rows[q]
            for i in range(n):
                whitened[i] += a * x[i] + b * y[i]
        for i in range(n):
            score[i] -= 0.5 * whitened[i] * whitened[i]


@_compiled
def _exponential(score, largest, power, n):
    """Replace scores by exp(score - largest), to the last digits, in vector instructions."""
    t = _TAYLOR
    bits, power_bits = score.view(np.int64), power.view(np.int64)
    for i in range(n):
        x = score[i] - largest[i]
        x = x if x > _LEAST else _LEAST
        power[i] = x * _LOG2_E + _ROUND
        whole = power[i] - _ROUND
        r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
        low = t[0] + r * (t[1] + r * (t[2] + r * (t[3] + r * (t[4] + r * t[5]))))
        high = t[6] + r * (t[7] + r * (t[8] + r * (t[9] + r * (t[10] + r * (t[11] + r * t[12])))))
        r2 = r * r
        score[i] = low + r2 * r2 * r2 * high
    for i in range(n):
        bits[i] += power_bits[i] << 52


@_compiled
def _uniform(seed, first, number, uniform, n):
    """Uniform numbers in [0, 1): SplitMix64 (Steele, Lea and Flood 2014) at given places."""
    for i in range(n):
        z = seed + (first + np.uint64(i)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        number[i] = (z ^ (z >> np.uint64(31))) >> np.uint64(11)
    for i in range(n):
        uniform[i] = np.float64(number[i]) * _UNIT


@_reordering
def _dot(a, b, low, high):
    total = 0.0
    for i in range(low, high):
        total += a[i] * b[i]
    return total


@_compiled
def _sample_rows(constant, factor, packed, used, seed, gram):
    """Draw a cluster for each row of weight one; fill Gram matrices, return the log density."""
    k, _, columns = factor.shape
    size = packed.shape[2]
    score, rows, grouped = (
        np.empty((k, _ROWS)),
        np.empty((columns, _ROWS)),
        np.empty((columns, _ROWS + k * _LANES)),
    )
    largest, total, scratch = np.empty(_ROWS), np.empty(_ROWS), np.empty(_ROWS)
    number, label = np.empty(_ROWS, np.uint64), np.empty(_ROWS, np.int64)
    count, begin = np.empty(k + 1, np.int64), np.empty(k + 1, np.int64)
    gram[:] = 0.0
    log_density = 0.0
    for chunk in range(used):
        weight = packed[chunk, columns]
        for start in range(0, size, _ROWS):
            n = min(_ROWS, size - start)
            for p in range(columns):
                source, target = packed[chunk, p], rows[p]
                for i in range(n):
                    target[i] = source[start + i]
            for c in range(k):
                _score(constant[c], factor[c], rows, n, scratch, score[c])
            largest[:] = score[0]
            for c in range(1, k):
                s = score[c]
                for i in range(n):
                    largest[i] = s[i] if s[i] > largest[i] else largest[i]
            total[:] = 0.0
            for c in range(k):
                s = score[c]
                _exponential(s, largest, scratch, n)
                for i in range(n):
                    total[i] += s[i]
                    s[i] = total[i]
            _uniform(seed, np.uint64(chunk * size + start), number, scratch, n)
            label[:] = 0
            for c in range(k - 1):
                s = score[c]
                for i in range(n):
                    label[i] += np.int64(s[i] <= scratch[i] * total[i])
            # The logarithm of a product costs one logarithm; 32 sums cannot overflow.
            for low in range(0, n, _LOGS_AT_ONCE):
                product = 1.0
                for i in range(low, min(low + _LOGS_AT_ONCE, n)):
                    if weight[start + i] > 0:
                        product *= total[i]
                        log_density += largest[i]
                    else:
                        label[i] = k
                log_density += np.log(product)
            # Rows of a cluster side by side, by counting; zeros fill its last vector.
            count[:] = 0
            for i in range(n):
                count[label[i]] += 1
            begin[0] = 0
            for c in range(k):
                begin[c + 1] = begin[c] + (count[c] + _LANES - 1) // _LANES * _LANES
                for p in range(columns):
                    grouped[p, begin[c] + count[c] : begin[c + 1]] = 0.0
            count[:] = begin
            for i in range(n):
                at = count[label[i]]
                count[label[i]] = at + 1
                label[i] = at
            for p in range(columns):
                source, target = rows[p], grouped[p]
                for i in range(n):
                    target[label[i]] = source[i]
            for c in range(k):
                pair = 0
                for p in range(columns):
                    for q in range(p, columns):
                        gram[c, pair] += _dot(grouped[p], grouped[q], begin[c], begin[c + 1])
                        pair += 1
    return log_density


@intrinsic
def _at(typing_context, address):
    """What lies at an address."""

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return nb.types.voidptr(address), code


@_compiled
def _shape(buffer, last):
    """How many arrays a buffer stacks, and the last dimensions of each."""
    words = nb.carray(_at(buffer), (6,), np.int64)
    rank = words[4]
    dims = nb.carray(_at(words[5]), (rank,), np.int64)
    stacked = 1
    for i in range(rank - last):
        stacked *= dims[i]
    return stacked, dims[rank - last :]


@_compiled
def _data(buffer):
    return _at(nb.carray(_at(buffer), (4,), np.int64)[3])


# Words of XLA_FFI_CallFrame: its extension, the interface, lists of arguments and of results.
_EXTENSION, _INTERFACE, _ARGUMENTS, _RESULTS, _FRAME = 1, 2, 9, 14, 20
_METADATA = 1


@nb.cfunc(nb.types.int64(nb.types.voidptr), **{k: v for k, v in _options.items() if k != "nogil"})
def _handler(address):
    """Read a call frame and run the pass for each model that it stacks."""
    frame = nb.carray(address, (_FRAME,), np.int64)
    if frame[_EXTENSION] != 0:
        extension = nb.carray(_at(frame[_EXTENSION]), (4,), np.int64)
        if extension[1] & 0xFFFFFFFF == _METADATA:
            # At registration XLA asks for the version of the interface: its own.
            metadata = nb.carray(_at(extension[3]), (4,), np.int64)
            metadata[3] = nb.carray(_at(frame[_INTERFACE]), (5,), np.int64)[4]
            return 0
    arguments = nb.carray(_at(frame[_ARGUMENTS]), (5,), np.int64)
    results = nb.carray(_at(frame[_RESULTS]), (2,), np.int64)
    n, _ = _shape(results[0], 0)
    n_constant, _ = _shape(arguments[0], 1)
    n_factor, (k, m, columns) = _shape(arguments[1], 3)
    n_packed, (chunks, width, size) = _shape(arguments[2], 3)
    n_used, _ = _shape(arguments[3], 0)
    n_seed, _ = _shape(arguments[4], 0)
    constant = nb.carray(_data(arguments[0]), (n_constant, k), np.float64)
    factor = nb.carray(_data(arguments[1]), (n_factor, k, m, columns), np.float64)
    packed = nb.carray(_data(arguments[2]), (n_packed, chunks, width, size), np.float64)
    used = nb.carray(_data(arguments[3]), (n_used,), np.int64)
    seed = nb.carray(_data(arguments[4]), (n_seed,), np.uint64)
    log_density = nb.carray(_data(results[0]), (n,), np.float64)
    gram = nb.carray(_data(results[1]), (n, k, columns * (columns + 1) // 2), np.float64)
    for i in range(n):
        # What all of them share is there once.
        log_density[i] = _sample_rows(
            constant[i % n_constant],
            factor[i % n_factor],
            packed[i % n_packed],
            used[i % n_used],
            seed[i % n_seed],
            gram[i],
        )
    return 0


@functools.cache
def _register() -> None:
    capsule = jax.ffi.pycapsule(_handler.address)
    jax.ffi.register_ffi_target(_TARGET, capsule, platform="cpu")


def sample_rows(
    constant: Float[Array, " k"],
    factor: Float[Array, "k m columns"],
    rows: RowBlock,
    bits: UInt32[Array, " 2"],
) -> tuple[Float[Array, ""], Float[Array, "k pairs"]]:
    """Draw a cluster for each row of weight one, those of weight zero being left out.

    Parameters
    ----------
    constant, factor
        The score of a row z, `constant - |factor z|^2 / 2`.
    rows
        Rows whose weights are zero or one.
    bits
        Random bits to seed the draws with.

    Returns
    -------
    The log density of the rows, and the packed Gram matrix of those drawn into each cluster.
    """
    _register()
    k, _, columns = factor.shape
    results = (
        jax.ShapeDtypeStruct((), np.float64),
        jax.ShapeDtypeStruct((k, columns * (columns + 1) // 2), np.float64),
    )
    call = jax.ffi.ffi_call(_TARGET, results, vmap_method="expand_dims")
    seed = lax.bitcast_convert_type(bits, np.uint64)
    used = rows.used.astype(np.int64)
    log_density, gram = call(constant, factor, rows.packed, used, seed)
    return log_density, gram
