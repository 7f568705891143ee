"""The second thread's two lines: time to the answer, and how often it is the right one.

The other side is the thread's program with its faults corrected, in NumPyro: the likelihood of a
row is marginalised by one logsumexp, and the minibatch is scaled to all rows; the guide is an
AutoNormal, fitted in the thread's 10,000 steps of 128 rows. NumPyro's plate, which would draw the
minibatch, shuffles all rows at every step; the bar is held against a leaner program without it.
An answer is right if slopes and weights are within 0.01 and the noise within 0.002 of the truth.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from jax.scipy.special import logsumexp
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.optim import Adam

from benchmarks.report import Measurement, interleaved, seconds

BAR_FIT = 0.5
BAR_COMMAND = 6.0
N_ROWS = 100_000
N_SEEDS = 20
REPEATS = 5
STEPS = 10_000
BATCH = 128
LEARNING_RATE = 0.001


def draw_rows(seed: int) -> pd.DataFrame:
    """Draw the thread's rows: y = 3x or y = -x, each for half of them, noise 0.1."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, N_ROWS)
    slope = np.where(rng.random(N_ROWS) < 0.5, -1.0, 3.0)
    return pd.DataFrame({"x": x, "y": slope * x + rng.normal(scale=0.1, size=N_ROWS)})


def log_density(x: jax.Array, y: jax.Array) -> jax.Array:
    """The thread's priors, and the log density of every row, marginalised row by row."""
    pi = numpyro.sample("pi", dist.Dirichlet(jnp.ones(2)))
    w = numpyro.sample("w", dist.Normal(0, 2).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.Uniform(0, 1))
    return logsumexp(jnp.log(pi) + dist.Normal(x[:, None] * w, sigma).log_prob(y[:, None]), axis=-1)


def program(x: jax.Array, y: jax.Array) -> None:
    """The thread's model; NumPyro's plate draws the minibatch and scales it."""
    with numpyro.plate("rows", N_ROWS, subsample_size=BATCH) as rows:
        batch = x[rows], y[rows]
    density = log_density(*batch)
    numpyro.factor("y", N_ROWS / BATCH * density.sum())


def lean_program(x: jax.Array, y: jax.Array) -> None:
    """The same with rows drawn with replacement: the plate shuffles all rows at every step."""
    rows = jax.random.randint(numpyro.prng_key(), (BATCH,), 0, N_ROWS)
    density = log_density(x[rows], y[rows])
    numpyro.factor("y", N_ROWS / BATCH * density.sum())


def run_numpyro(
    data: pd.DataFrame, model: Callable[..., None] = lean_program, seed: int = 0
) -> dict[str, np.ndarray]:
    """Fit a hand-written program and return the medians of its guide."""
    x, y = jnp.asarray(data["x"].to_numpy()), jnp.asarray(data["y"].to_numpy())
    guide = AutoNormal(model)
    svi = SVI(model, guide, Adam(LEARNING_RATE), Trace_ELBO())
    result = svi.run(jax.random.PRNGKey(seed), STEPS, x, y, progress_bar=False)
    return {name: np.asarray(v) for name, v in guide.median(result.params).items()}


def is_right(w: np.ndarray, sigma: np.ndarray, pi: np.ndarray) -> bool:
    """Whether slopes w, noise sigma and weights pi are those that the rows were drawn with."""
    return bool(
        np.allclose(np.sort(w), [-1.0, 3.0], rtol=0, atol=0.01)
        and np.allclose(sigma, 0.1, rtol=0, atol=0.002)
        and np.allclose(pi, 0.5, rtol=0, atol=0.01)
    )


def run_clusterwise(data: pd.DataFrame, engine: str, seed: int = 0) -> bool:
    """Fit two lines and say whether they are the right ones."""
    import clusterwise as cw

    fit = cw.Model("y ~ x", n_components=2).fit(data, engine=engine, random_state=seed)
    return is_right(
        fit.coefficients["x"].to_numpy(), np.ravel(fit.dispersion), np.ravel(fit.weights)
    )


def command_seconds(data: pd.DataFrame) -> list[float]:
    """Seconds of the whole command in a fresh process: with an empty cache, and again."""
    command = Path(sys.executable).with_name("clusterwise")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lines.parquet")
        data.to_parquet(path)
        environment = {**os.environ, "XDG_CACHE_HOME": str(Path(folder, "cache"))}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        arguments = [str(command), "fit", str(path), "y ~ x", "-k", "2", "--engine", "vi"]
        times = []
        for output in ("first", "second"):
            start = time.perf_counter()
            subprocess.run(
                [*arguments, "--output", str(Path(folder, output))],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            times.append(time.perf_counter() - start)
    return times


def program_seconds() -> float:
    """Seconds of the hand-written program in a fresh process."""
    script = [sys.executable, "-m", "benchmarks.lines"]
    return seconds(lambda: subprocess.run(script, cwd=Path(__file__).parents[1], check=True))


def main() -> list[Measurement]:
    """Time fits and commands beside the hand-written programs, and count right answers."""
    data = draw_rows(seed=0)
    sides: list[Callable[[], object]] = [
        lambda: run_clusterwise(data, "vi"),
        lambda: run_numpyro(data),
        lambda: run_numpyro(data, program),
    ]
    interleaved(sides, 1)
    ours, lean, plain = interleaved(sides, REPEATS)
    first, second = command_seconds(data)
    fresh = program_seconds()

    def speed(what: str, ours: float, theirs: float) -> Measurement:
        return Measurement("lines", what, f"{ours:.3g} s", f"{theirs:.3g} s", theirs / ours)

    def limit(what: str, ours: float, bar: float) -> Measurement:
        return Measurement(
            "lines", what, f"{ours:.3g} s", f"{bar:g} s", ours / bar, 1.0, at_most=True
        )

    def accuracy(engine: str, right: int) -> Measurement:
        return Measurement(
            "lines",
            f"right answers: {engine} / hand-written",
            f"{right} of {N_SEEDS}",
            f"{written} of {N_SEEDS}",
            right / N_SEEDS,
            1.0,
        )

    written = sum(is_right(**run_numpyro(draw_rows(s), seed=s)) for s in range(N_SEEDS))
    return [
        limit("warm fit, median, of its limit", median(ours), BAR_FIT),
        limit("fresh command, nothing cached, of its limit", first, BAR_COMMAND),
        speed("warm fit, median", median(ours), median(lean)),
        speed("warm fit, median; with the plate's shuffle", median(ours), median(plain)),
        speed("fresh process, nothing cached", first, fresh),
        speed("fresh process, second run", second, fresh),
        *(
            accuracy(e, sum(run_clusterwise(draw_rows(s), e, s) for s in range(N_SEEDS)))
            for e in ("vi", "svi")
        ),
    ]


if __name__ == "__main__":
    run_numpyro(draw_rows(seed=0))
