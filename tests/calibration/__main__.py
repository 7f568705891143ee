"""Run the whole calibration and write it down: `python -m tests.calibration`."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clusterwise.core.runtime import double_precision
from tests.calibration import geweke, library, sbc
from tests.calibration.registry import COMBINATIONS, SAMPLERS, Combination, rotation
from tests.calibration.report import Sizes, Study, write


def study(name: str, sizes: Sizes, threads: int) -> Study:
    """Everything that is run for one sampler."""
    sampler, pairs = SAMPLERS[name], rotation()
    joint = rotation(offset=2) if sampler.transition is not None else []

    @double_precision
    def ranks(numbered: tuple[int, Combination]) -> sbc.Ranks:
        seed, combination = numbered
        count = sizes.replications if combination in pairs else sizes.others
        return _timed(combination.name, sbc.run, sampler, combination, count, seed)

    @double_precision
    def joint_test(numbered: tuple[int, Combination]) -> dict[str, float]:
        seed, combination = numbered
        return _timed(combination.name, geweke.run, sampler, combination, sizes.chains, seed)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(ranks, enumerate(COMBINATIONS)))
        compared = list(pool.map(joint_test, enumerate(joint)))
    fitted = {
        model: _timed(model, library.run, library.ENGINES[name], model, sizes.fits, seed)
        for seed, model in enumerate(library.MODELS)
    }
    return Study(
        name,
        dict(zip(COMBINATIONS, found, strict=True)),
        dict(zip(joint, compared, strict=True)),
        fitted,
    )


def _timed(name: str, function: Any, *args: Any) -> Any:
    started = time.perf_counter()
    found = function(*args)
    print(f"{time.perf_counter() - started:6.1f} s  {name}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = Sizes()
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=list(SAMPLERS))
    parser.add_argument("--replications", type=int, default=sizes.replications)
    parser.add_argument("--others", type=int, default=sizes.others)
    parser.add_argument("--chains", type=int, default=sizes.chains)
    parser.add_argument("--fits", type=int, default=sizes.fits)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    options = parser.parse_args()
    chosen = Sizes(options.replications, options.others, options.chains, options.fits)
    started = time.perf_counter()
    studies = [study(name, chosen, options.threads) for name in options.samplers]
    passed = write(studies, chosen, options.output)
    print(f"{time.perf_counter() - started:.0f} s in all; {'passed' if passed else 'FAILED'}")
    raise SystemExit(not passed)


if __name__ == "__main__":
    main()
