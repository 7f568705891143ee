"""A growing sequence of arrays, in memory or in a temporary file."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod

import jax
import numpy as np

from clusterwise.core.errors import FileError

Stored = np.ndarray | jax.Array


class AbstractStore(ABC):
    """Arrays that are appended once and read back in any order, from any thread."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def append(self, array: Stored) -> None:
        """Keep an array as the next part."""

    @abstractmethod
    def read(self, part: int) -> Stored:
        """A part."""


class MemoryStore(AbstractStore):
    """Parts in memory."""

    def __init__(self) -> None:
        self._parts: list[Stored] = []

    def __len__(self) -> int:
        return len(self._parts)

    def append(self, array: Stored) -> None:
        self._parts.append(array)

    def read(self, part: int) -> Stored:
        return self._parts[part]


class DiskStore(AbstractStore):
    """Parts of 64-bit numbers in a temporary file, which disappears with the object.

    The file is read with plain reads: the pages of a memory map would count as memory in use.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="clusterwise-")  # noqa: SIM115
        self._parts: list[tuple[int, tuple[int, ...]]] = []
        self._end = 0

    def __len__(self) -> int:
        return len(self._parts)

    def append(self, array: Stored) -> None:
        view = np.ascontiguousarray(array).view(np.uint8).ravel().data
        done = 0
        try:
            while done < view.nbytes:
                done += os.pwrite(self._file.fileno(), view[done:], self._end + done)
        except OSError as error:
            raise FileError(
                f"Cannot keep the encoded rows in {tempfile.gettempdir()!r} ({error.strerror}); "
                "free room there, or set TMPDIR to a folder that has more."
            ) from error
        self._parts.append((self._end, array.shape))
        self._end += view.nbytes

    def read(self, part: int) -> Stored:
        offset, shape = self._parts[part]
        array = np.empty(shape)
        view = array.view(np.uint8).ravel().data
        done = 0
        while done < view.nbytes:
            count = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            if not count:
                raise FileError(
                    "The temporary file with the encoded rows was cut short; fit again."
                )
            done += count
        return array
