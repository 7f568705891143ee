"""Effective draws a second on the first thread's model: NUTS here against the thread's program.

The other side is `gibbs_thread_one`'s: the thread's program with its faults corrected, the discrete
assignment enumerated, NUTS for the rest. Both sides run NumPyro's NUTS with the same priors on the
same rows; here the clusters are summed out in one pass over the rows that gives value and gradient,
and chains move in the coordinates of a variational fit.
"""

from __future__ import annotations

import time

import jax
import pandas as pd

from benchmarks.gibbs_thread_one import N_COMPONENTS, N_ROWS, run_numpyro
from benchmarks.report import Measurement
from benchmarks.thread_one import COVARIANCE, SIGMA, Draws, draw_rows

BAR = 30.0
REPEATS = 2


def run_clusterwise(data: pd.DataFrame, num_warmup: int = 300, num_samples: int = 2000) -> Draws:
    """Fit the same model, with the same priors, by NUTS."""
    import clusterwise as cw

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
    engine = cw.NUTS(num_warmup=num_warmup, num_samples=num_samples, num_chains=4)
    tree = model.fit(data, engine=engine, random_state=42).posterior
    steps, divergent = (int(tree["sample_stats"][n].sum()) for n in ("n_steps", "diverging"))
    print(f"clusterwise: {steps} leapfrog steps, {divergent} divergences")
    posterior = tree["posterior"].dataset
    first = ("chain", "draw", "component")
    return Draws(
        posterior["means"].transpose(*first, ...).to_numpy(),
        posterior["coefficients"].transpose(*first, ...).to_numpy(),
    )


def main() -> list[Measurement]:
    """Time both programs and compare their least effective draws a second."""
    data = draw_rows(N_ROWS, seed=42)
    names = ("ours warm", "ours wall", "other sampling", "other run", "other wall")
    best = dict.fromkeys(names, 0.0)
    for _ in range(REPEATS):
        jax.clear_caches()
        for call in ("ours wall", "ours warm"):
            start = time.perf_counter()
            draws = run_clusterwise(data)
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

    def rate(what: str, ours: str, theirs: str, bar: float | None) -> Measurement:
        return Measurement(
            "nuts_thread_one",
            what,
            f"{best[ours]:.4g} ESS/s",
            f"{best[theirs]:.4g} ESS/s",
            best[ours] / best[theirs],
            bar,
        )

    return [
        rate("whole run of each, compiled before", "ours warm", "other run", BAR),
        rate("whole run of each, compilation included", "ours wall", "other wall", None),
        rate("whole call here, sampling phase alone there", "ours warm", "other sampling", None),
        Measurement(
            "nuts_thread_one",
            "true values in 99% intervals",
            f"{covered} of {asked}",
            f"{other_covered} of {asked}",
            covered / asked,
            1.0,
        ),
    ]
