"""What a sampling run leaves on disk while it runs, so that it can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from clusterwise.core.errors import FileError
from clusterwise.core.version import __version__

_SECONDS_BETWEEN = 1.0
_RUN = "run.json"

Leaves = list[np.ndarray]


class Checkpoint:
    """A folder with the state of each group of chains and the draws so far.

    Every file is written beside its place and then moved there, so that a run that is cut off at
    any moment leaves only whole files. Nothing in them can run code.

    Parameters
    ----------
    folder
        Made when it does not exist.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._waiting: dict[int, list[Leaves]] = {}
        self._written: dict[int, float] = {}

    def seed(self, rng: np.random.Generator, given: bool) -> None:
        """Give a generator the state that the run began with, or note it for a later one.

        Parameters
        ----------
        rng
            The generator, changed in place.
        given
            Whether the user gave a seed, which then must be the run's.
        """
        state = rng.bit_generator.state
        known = self._read().get("random_state")
        if known is None:
            self._write({"random_state": state})
        elif given and known != state:
            raise FileError(
                f"The checkpoint {str(self._folder)!r} was begun with another random_state; give "
                "that one or none, or another folder."
            )
        else:
            rng.bit_generator.state = known

    def identify(self, *facts: str) -> None:
        """Refuse a folder that belongs to other data, another model or other settings."""
        identity = hashlib.sha256("\n".join((__version__, *facts)).encode()).hexdigest()
        known = self._read().get("identity")
        if known is None:
            self._write({"identity": identity})
        elif known != identity:
            raise FileError(
                f"The checkpoint {str(self._folder)!r} belongs to other data, another model or "
                "other settings; remove it or give another folder."
            )

    def restore(self, group: int, state: PyTree) -> tuple[PyTree, list[Leaves], int]:
        """State, draws so far and number of blocks done; as given and none where nothing is kept.

        Parameters
        ----------
        group
            Number of the group of chains.
        state
            The state that the group begins with, whose structure a kept one has.
        """
        leaves, structure = jax.tree.flatten(state)
        kept, done = [], 0
        for path in sorted(self._folder.glob(f"group-{group}-*.npz")):
            with np.load(path, allow_pickle=False) as archive:
                done = int(archive["blocks"])
                leaves = [archive[f"state-{i}"] for i in range(len(leaves))]
                n_draws = sum(name.startswith("draws-") for name in archive.files)
                kept.append([archive[f"draws-{i}"] for i in range(n_draws)])
        return jax.tree.unflatten(structure, leaves), [part for part in kept if part], done

    def keep(self, group: int, done: int, state: PyTree, draws: Leaves | None) -> None:
        """Note a block of draws, and write what is not yet written when a second has passed.

        Parameters
        ----------
        group
            Number of the group of chains.
        done
            Blocks that it has made.
        state
            Its state after them.
        draws
            The last block's draws; None in warm-up.
        """
        waiting = self._waiting.setdefault(group, [])
        if draws is not None:
            waiting.append(draws)
        now = time.monotonic()
        if now - self._written.setdefault(group, now) < _SECONDS_BETWEEN:
            return
        arrays = {f"state-{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        joined = [np.concatenate(parts) for parts in zip(*waiting, strict=True)]
        arrays |= {f"draws-{i}": leaf for i, leaf in enumerate(joined)}
        with self._replacing(f"group-{group}-{done:08d}.npz") as path:
            np.savez(path, allow_pickle=False, blocks=np.asarray(done), **arrays)
        self._waiting[group] = []
        self._written[group] = time.monotonic()

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads((self._folder / _RUN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise FileError(
                f"Cannot read {str(self._folder / _RUN)!r}: {error.strerror or error}. Give "
                "another folder, or make this one readable."
            ) from error
        except ValueError as error:
            raise FileError(
                f"{str(self._folder / _RUN)!r} is damaged; remove the checkpoint's folder."
            ) from error

    def _write(self, more: dict[str, Any]) -> None:
        document = {**self._read(), **more}
        with self._replacing(_RUN) as path:
            path.write_text(json.dumps(document), encoding="utf-8")

    @contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        """A file that takes its name when it is complete."""
        scratch = self._folder / f".{name}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            yield scratch
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
            scratch.replace(self._folder / name)
        except OSError as error:
            # Half a file would take the room that is missing.
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise FileError(
                f"Cannot write to the checkpoint {str(self._folder)!r}: "
                f"{error.strerror or error}. Make room there and call again, which goes on from "
                "what is kept, or give another folder."
            ) from error
