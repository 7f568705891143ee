"""Run the whole calibration and write it down: `python -m tests.calibration`."""

from __future__ import annotations

import argparse
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clusterwise.core.runtime import double_precision
from tests.calibration import geweke, library, sbc
from tests.calibration.registry import COMBINATIONS, EXTENDED, SAMPLERS, Combination, rotation
from tests.calibration.report import Sizes, Study, write

# Trajectories take long to compile, and a fit by them takes seconds.
SIZES = {"gibbs": Sizes(), "nuts": Sizes(others=0, chains=0, fits=40, extended=0)}


class Runs:
    """What was run, kept in a folder if there is one, so that a run that is cut off goes on."""

    def __init__(self, sampler: str, folder: Path | None, *, kept_only: bool) -> None:
        self.sampler, self.folder, self.kept_only = sampler, folder, kept_only

    def __call__(self, name: str, function: Any, *args: Any) -> Any:
        """`function(*args)`, of which the last two are a size and a seed; None if it is not run."""
        kind = function.__module__.rpartition(".")[2]
        path = self.folder and self.folder / self.sampler / kind / f"{name}; {args[-2]}.pickle"
        if path and path.exists():
            return pickle.loads(path.read_bytes())
        if self.kept_only or not args[-2]:
            return None
        started = time.perf_counter()
        found = function(*args)
        print(f"{time.perf_counter() - started:6.1f} s  {self.sampler}: {name}", flush=True)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(found))
        return found


def study(name: str, sizes: Sizes, threads: int, runs: Runs) -> Study:
    """Everything that is run for one sampler."""
    sampler, pairs = SAMPLERS[name], rotation()
    joint = rotation(offset=2) if sampler.transition is not None else []

    @double_precision
    def ranks(numbered: tuple[int, Combination]) -> Any:
        seed, combination = numbered
        count = sizes.replications if combination in pairs else sizes.others
        return runs(combination.name, sbc.run, sampler, combination, count, seed)

    @double_precision
    def joint_test(numbered: tuple[int, Combination]) -> Any:
        seed, combination = numbered
        return runs(combination.name, geweke.run, sampler, combination, sizes.chains, seed)

    @double_precision
    def extended(numbered: tuple[int, Combination]) -> Any:
        seed, combination = numbered
        return runs(combination.name, sbc.run, sampler, combination, sizes.extended, seed)

    with ThreadPoolExecutor(threads) as pool:
        numbers = range(len(COMBINATIONS), len(COMBINATIONS) + len(EXTENDED))
        more = zip(numbers, EXTENDED, strict=True)
        more = dict(zip(EXTENDED, pool.map(extended, more), strict=True))
        found = zip(COMBINATIONS, pool.map(ranks, enumerate(COMBINATIONS)), strict=True)
        compared = zip(joint, pool.map(joint_test, enumerate(joint)), strict=True)
        found, compared = dict(found), dict(compared)
    fitted = {
        model: runs(model, library.run, library.ENGINES[name], model, sizes.fits, seed)
        for seed, model in enumerate(library.MODELS)
    }
    return Study(name, sizes, *map(_without_none, (found, compared, fitted, more)))


def _without_none(found: dict[Any, Any]) -> dict[Any, Any]:
    return {name: value for name, value in found.items() if value is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    for size in Sizes._fields:
        parser.add_argument(f"--{size}", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    parser.add_argument("--keep", type=Path, help="folder of results, where a later run goes on")
    parser.add_argument("--kept-only", action="store_true", help="write what --keep has, run none")
    options = parser.parse_args()
    asked = {name: getattr(options, name) for name in Sizes._fields}
    asked = {name: size for name, size in asked.items() if size is not None}
    started = time.perf_counter()
    studies = [
        study(
            name,
            SIZES[name]._replace(**asked),
            options.threads,
            Runs(name, options.keep, kept_only=options.kept_only),
        )
        for name in options.samplers
    ]
    passed = write(studies, options.output)
    print(f"{time.perf_counter() - started:.0f} s in all; {'passed' if passed else 'FAILED'}")
    raise SystemExit(not passed)


if __name__ == "__main__":
    main()
