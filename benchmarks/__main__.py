"""Run all benchmarks, or those named: `python -m benchmarks [NAME ...] [--strict]`."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.report import Measurement, table

NAMES = (
    "gibbs_thread_one",
    "nuts_thread_one",
    "nuts_memory",
    "em_iteration",
    "em_families",
    "lines",
    "select_clusters",
    "out_of_core",
)


def main() -> int:
    """Run, print one table, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(NAMES)}")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"unknown benchmark: {', '.join(sorted(unknown))}")
    measurements: list[Measurement] = []
    for name in arguments.names or NAMES:
        print(f"== {name}", flush=True)
        measurements += importlib.import_module(f"benchmarks.{name}").main()
    print()
    print(table(measurements))
    return int(arguments.strict and not all(m.met for m in measurements))


if __name__ == "__main__":
    sys.exit(main())
