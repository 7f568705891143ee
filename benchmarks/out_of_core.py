"""Peak memory and time of a fit to a Parquet file, at a million and at ten million rows.

Each fit has a process of its own. "Iteration" is one pass over the file, from the difference
between a long and a short fit; "default fit" is `cw.EM()` as it comes, starting values included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import Measurement
from benchmarks.thread_one import draw_rows

BAR_BYTES = 1.5e9
BAR_MEMORY = 1.1
BAR_TIME = 1.3
SMALL, LARGE = 1_000_000, 10_000_000
CHUNK = 250_000
REPEATS = 2
WHAT = {"fixed": "iteration", "full": "default fit"}


def write_rows(path: Path, n: int) -> None:
    """Write n rows of the first thread's clusters, a chunk at a time."""
    chunks = (
        pa.Table.from_pandas(draw_rows(CHUNK, seed), preserve_index=False)
        for seed in range(n // CHUNK)
    )
    first = next(chunks)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for chunk in chunks:
            writer.write_table(chunk)


def fit_file(path: Path, mode: str) -> tuple[float, float]:
    """Seconds and peak bytes of a fit in a process of its own."""
    script = Path(__file__).with_name("fit_file.py")
    done = subprocess.run(
        [sys.executable, str(script), str(path), mode], check=True, stdout=subprocess.PIPE
    )
    result = json.loads(done.stdout.splitlines()[-1])
    return result["seconds"], result["peak_bytes"]


def main() -> list[Measurement]:
    """Fit both files in both modes."""
    measurements = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {n: Path(folder, f"{n}.parquet") for n in (SMALL, LARGE)}
        for n, path in paths.items():
            write_rows(path, n)
        for mode, what in WHAT.items():
            runs = np.array(
                [[fit_file(path, mode) for path in paths.values()] for _ in range(REPEATS)]
            )
            seconds = runs[..., 0].min(axis=0)
            small, large = runs[..., 1].max(axis=0)
            per_row = seconds / [SMALL, LARGE] * 1e9
            print(
                f"{what}: {seconds[0]:.3g} s at {SMALL:.0e} rows, {seconds[1]:.3g} s at {LARGE:.0e}"
            )
            measurements += [
                Measurement(
                    "out_of_core",
                    f"{what}: peak memory, 1e7 rows / limit",
                    f"{large / 1e9:.3g} GB",
                    f"{BAR_BYTES / 1e9:.3g} GB",
                    large / BAR_BYTES,
                    1.0,
                    at_most=True,
                ),
                Measurement(
                    "out_of_core",
                    f"{what}: peak memory, 1e7 rows / 1e6 rows",
                    f"{large / 1e9:.3g} GB",
                    f"{small / 1e9:.3g} GB",
                    large / small,
                    BAR_MEMORY,
                    at_most=True,
                ),
                Measurement(
                    "out_of_core",
                    f"{what}: time a row, 1e7 rows / 1e6 rows",
                    f"{per_row[1]:.3g} ns",
                    f"{per_row[0]:.3g} ns",
                    per_row[1] / per_row[0],
                    BAR_TIME,
                    at_most=True,
                ),
            ]
    return measurements
