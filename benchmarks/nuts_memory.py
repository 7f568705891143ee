"""Peak memory of `engine="nuts"` on 100,000 rows, 20 components and ten regressors.

The joint model, whose parameters are the most: 20 weights, means and full covariances of ten
covariates, regressions on ten regressors. The fit runs in a process of its own, which first imports
all that a fit uses, starts JAX and makes the data. What is measured is the greatest resident memory
of that process until `fit` has returned, minus its resident memory before the call: the rows as the
engine holds them, the starting values by variational inference, the compiler and the two chains are
all in it, the data frame itself and the libraries are not. Compiled programs are not read from
a cache, since compiling them takes memory too.

Draws are few, since only those that are kept take memory that grows with their number, 20 kB each
here. How long trajectories were is printed: while two chains run side by side, XLA's runtime holds
on to half a megabyte for every step until the draw is made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import clusterwise as cw
from benchmarks.report import Measurement

BAR_BYTES = 500e6
N_ROWS = 100_000
N_COMPONENTS = 20
N_REGRESSORS = 10
ENGINE = cw.NUTS(num_warmup=20, num_samples=20, num_chains=2, max_tree_depth=6, n_init=2)


def draw_rows() -> pd.DataFrame:
    """Draw rows of as many clusters as are fitted."""
    rng = np.random.default_rng(0)
    z = rng.integers(N_COMPONENTS, size=N_ROWS)
    centers = rng.normal(size=(N_COMPONENTS, N_REGRESSORS), scale=3.0)
    slopes = rng.normal(size=(N_COMPONENTS, N_REGRESSORS), scale=2.0)
    x = centers[z] + rng.normal(size=(N_ROWS, N_REGRESSORS))
    names = [f"x{j}" for j in range(N_REGRESSORS)]
    data = pd.DataFrame(x, columns=names)
    data["y"] = (x * slopes[z]).sum(axis=1) + 0.5 * rng.normal(size=N_ROWS)
    return data


def bytes_of(field: str) -> int:
    """Resident memory of this process alone: now ("VmRSS") or at its greatest ("VmHWM")."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if field in s)
    return int(line.split()[1]) * 1024


def measure() -> dict[str, float]:
    """Fit in this process."""
    import arviz_stats  # noqa: F401
    import jax
    import numpyro.infer.hmc  # noqa: F401

    import clusterwise.fit  # noqa: F401

    jax.block_until_ready(jax.numpy.ones(1))
    data = draw_rows()
    right = " + ".join(name for name in data.columns if name != "y")
    model = cw.Model(f"y ~ {right}", n_components=N_COMPONENTS, covariates=right)
    before = bytes_of("VmRSS")
    fit = model.fit(data, engine=ENGINE, random_state=0)
    peak = bytes_of("VmHWM")
    steps = fit.posterior["sample_stats"]["n_steps"].to_numpy()
    return {
        "before": before,
        "peak": peak,
        "steps": float(steps.max()),
        "data": float(data.memory_usage(index=False).sum()),
    }


def main() -> list[Measurement]:
    """Fit in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.nuts_memory"]
    uncached = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=uncached)
    found = json.loads(done.stdout.splitlines()[-1])
    more = found["peak"] - found["before"]
    print(
        f"before the fit {found['before'] / 1e6:.0f} MB, of which data {found['data'] / 1e6:.0f} "
        f"MB; at most {found['peak'] / 1e6:.0f} MB; trajectories up to {found['steps']:.0f} steps"
    )
    return [
        Measurement(
            "nuts_memory",
            "peak memory over imports and data / limit",
            f"{more / 1e6:.0f} MB",
            f"{BAR_BYTES / 1e6:.0f} MB",
            more / BAR_BYTES,
            1.0,
            at_most=True,
        )
    ]


if __name__ == "__main__":
    print(json.dumps(measure()))
