"""Effective draws a second on the first thread's model: a sampler here, and the thread's program.

The other side is the thread's program with its faults corrected: the discrete assignment is
enumerated and NUTS samples the rest, one chain from `init_to_median`. Its effective sample size
is counted as it is, also where the chain stays in a wrong mode. Its progress bar is off, which
makes it faster.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from numpyro.contrib.funsor import config_enumerate
from numpyro.infer import MCMC, NUTS, init_to_median

import clusterwise as cw
from benchmarks.report import Measurement
from benchmarks.thread_one import COVARIANCE, SIGMA, Draws, draw_rows

N_ROWS = 1000
N_COMPONENTS = 4


@dataclass(frozen=True)
class NumPyroRun:
    """The thread's program, run once."""

    draws: Draws
    divergences: int
    leapfrog_steps: int
    sampling_seconds: float
    run_seconds: float
    wall_seconds: float


@config_enumerate
def program(x: jax.Array, y: jax.Array) -> None:
    """The thread's model, with its priors."""
    n, d = x.shape
    k = N_COMPONENTS
    probs = numpyro.sample("cluster_probs", dist.Dirichlet(jnp.ones(k) / k))
    with numpyro.plate("mixture_components", k):
        prior = dist.MultivariateNormal(jnp.zeros(d), 10 * jnp.eye(d))
        locs = numpyro.sample("locs", prior)
        thetas = numpyro.sample("thetas", prior)
        intercepts = numpyro.sample("intercepts", dist.Normal(0, 10))
    with numpyro.plate("data", n):
        assignment = numpyro.sample("assignment", dist.Categorical(probs))
        rows = dist.MultivariateNormal(locs[assignment], COVARIANCE * jnp.eye(d))
        numpyro.sample("x_obs", rows, obs=x)
        mean = jnp.sum(thetas[assignment] * x, axis=-1) + intercepts[assignment]
        numpyro.sample("y_obs", dist.Normal(mean, SIGMA), obs=y)


@contextmanager
def compile_spans() -> Iterator[list[tuple[float, float]]]:
    """Collect the start and end of everything that JAX traces or compiles."""
    spans: list[tuple[float, float]] = []

    def listen(event: str, start: float, end: float, **_: object) -> None:
        if event.startswith("/jax/core/compile/"):
            spans.append((start, end))

    jax.monitoring.register_event_time_span_listener(listen)
    try:
        yield spans
    finally:
        jax.monitoring.unregister_event_time_span_listener(listen)


def covered_seconds(spans: list[tuple[float, float]]) -> float:
    """Length of the union of spans, which may be nested."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def run_numpyro(
    data: pd.DataFrame, num_warmup: int = 1000, num_samples: int = 1000, seed: int = 42
) -> NumPyroRun:
    """Run the thread's program with the thread's settings, compilation included."""
    jax.clear_caches()
    start = time.perf_counter()
    x, y = jnp.asarray(data[["x1", "x2"]].to_numpy()), jnp.asarray(data["y"].to_numpy())
    kernel = NUTS(program, max_tree_depth=10, init_strategy=init_to_median())
    mcmc = MCMC(kernel, num_warmup=num_warmup, num_samples=num_samples, progress_bar=False)
    with compile_spans() as warmup_spans:
        mcmc.warmup(jax.random.PRNGKey(seed), x, y)
        jax.block_until_ready(mcmc.last_state)
    warm = time.perf_counter()
    with compile_spans() as spans:
        mcmc.run(mcmc.last_state.rng_key, x, y, extra_fields=("num_steps",))
        samples = jax.block_until_ready(mcmc.get_samples(group_by_chain=True))
    end = time.perf_counter()
    sampling = end - warm - covered_seconds(spans)
    extra = mcmc.get_extra_fields()
    coefficients = np.concatenate([samples["intercepts"][..., None], samples["thetas"]], axis=-1)
    return NumPyroRun(
        draws=Draws(np.asarray(samples["locs"]), coefficients),
        divergences=int(extra["diverging"].sum()),
        leapfrog_steps=int(extra["num_steps"].sum()),
        sampling_seconds=sampling,
        run_seconds=warm - start - covered_seconds(warmup_spans) + sampling,
        wall_seconds=end - start,
    )


def run_clusterwise(data: pd.DataFrame, engine: cw.Gibbs | cw.NUTS) -> Draws:
    """Fit the same model, with the same priors."""
    model = cw.Model(
        "y ~ x1 + x2",
        family=cw.Gaussian(sigma=SIGMA),
        n_components=N_COMPONENTS,
        covariates=[
            cw.GaussianCovariates("x1 + x2", covariance_type="spherical", covariance=COVARIANCE)
        ],
        weights=cw.Dirichlet(1 / N_COMPONENTS),
        prior={
            "y": cw.Normal(mean=0, covariance=[100, 10, 10]),
            "covariates": cw.Normal(mean=0, covariance=10),
        },
    )
    tree = model.fit(data, engine=engine, random_state=42).posterior
    stats = tree["sample_stats"]
    if "n_steps" in stats:
        steps, divergent = (int(stats[name].sum()) for name in ("n_steps", "diverging"))
        print(f"clusterwise: {steps} leapfrog steps, {divergent} divergences")
    posterior = tree["posterior"].dataset
    first = ("chain", "draw", "component")
    return Draws(
        posterior["means"].transpose(*first, ...).to_numpy(),
        posterior["coefficients"].transpose(*first, ...).to_numpy(),
    )


def compare(
    benchmark: str, engine: cw.Gibbs | cw.NUTS, *, repeats: int, bar: float
) -> list[Measurement]:
    """Time both programs and compare their least effective draws a second.

    Parameters
    ----------
    benchmark
        Its name in the table.
    engine
        The sampler here.
    repeats
        Runs of each side, of which the best counts.
    bar
        Least ratio of whole runs that are compiled already.

    Returns
    -------
    list of Measurement
    """
    data = draw_rows(N_ROWS, seed=42)
    names = ("ours warm", "ours wall", "other sampling", "other run", "other wall")
    best = dict.fromkeys(names, 0.0)
    for _ in range(repeats):
        jax.clear_caches()
        for call in ("ours wall", "ours warm"):
            start = time.perf_counter()
            draws = run_clusterwise(data, engine)
            spent = time.perf_counter() - start
            best[call] = max(best[call], draws.least_ess / spent)
            print(f"clusterwise, {call[5:]}: {spent:.2f} s, least ESS {draws.least_ess:.0f}")
        other = run_numpyro(data)
        for name, spent in (
            ("other sampling", other.sampling_seconds),
            ("other run", other.run_seconds),
            ("other wall", other.wall_seconds),
        ):
            best[name] = max(best[name], other.draws.least_ess / spent)
        print(
            f"NumPyro: sampling {other.sampling_seconds:.2f} s, "
            f"with warm-up {other.run_seconds:.2f} s, with compilation {other.wall_seconds:.2f} s, "
            f"least ESS {other.draws.least_ess:.0f}, {other.divergences} divergences, "
            f"{other.leapfrog_steps} leapfrog steps"
        )
    covered, asked = draws.covered()
    other_covered, _ = other.draws.covered()

    def rate(what: str, ours: str, theirs: str, least: float | None = None) -> Measurement:
        return Measurement(
            benchmark,
            what,
            f"{best[ours]:.4g} ESS/s",
            f"{best[theirs]:.4g} ESS/s",
            best[ours] / best[theirs],
            least,
        )

    return [
        rate("whole run of each, compiled before", "ours warm", "other run", bar),
        rate("whole run of each, compilation included", "ours wall", "other wall"),
        rate("whole call here, sampling phase alone there", "ours warm", "other sampling"),
        Measurement(
            benchmark,
            "true values in 99% intervals",
            f"{covered} of {asked}",
            f"{other_covered} of {asked}",
            covered / asked,
            1.0,
        ),
    ]
