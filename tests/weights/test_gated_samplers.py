"""Both samplers of weights that depend on covariates: one distribution, which holds the truth."""

import numpy as np
import pytest

import clusterwise as cw

pytestmark = pytest.mark.slow

GATES = np.array([[0.0, 0.0], [0.5, -1.5]])
TRUTH = {"gates": GATES, "coefficients": [[0, 2], [1, -2]], "sigma": [0.5, 0.5]}
KINDS = {"softmax": cw.Gated("w"), "sticks": cw.LogitStickBreaking("w")}
SAMPLERS = {
    "gibbs": cw.Gibbs(n_init=2, num_warmup=300, num_samples=4000, num_chains=2),
    "nuts": cw.NUTS(n_init=2, num_warmup=500, num_samples=1500, num_chains=2),
}


def simulated(n, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(2, n))
    return cw.Model("y ~ x", weights=cw.Gated("w")).simulate(
        None, TRUTH, rng, data={"x": x, "w": w}
    )


@pytest.fixture(scope="module", params=KINDS)
def fits(request):
    data = simulated(120, 5)
    model = cw.Model("y ~ x", weights=KINDS[request.param])
    return data, {name: model.fit(data, own, random_state=1) for name, own in SAMPLERS.items()}


def log_odds(fit):
    """(chain, draw, row) log odds of the component that grows with x, at three values of w."""
    posterior = fit.posterior["posterior"]
    slope = posterior["coefficients"].sel(coef="x").to_numpy()
    first = slope.argmax(axis=-1)[..., None]
    gates = posterior["gates"].to_numpy()
    if "stick" in posterior:
        taken = np.nansum(gates, axis=2)
        sign = np.where(np.take_along_axis(posterior["stick"].to_numpy(), first, 2) == 0, 1, -1)
    else:
        taken, sign = gates[:, :, 1] - gates[:, :, 0], np.where(first == 1, 1, -1)
    return sign * (taken @ np.array([[1.0, 1.0, 1.0], [-1.0, 0.0, 1.0]]))


def test_samplers_agree(fits):
    """Means and standard deviations, within Monte Carlo error."""
    from arviz_stats import ess

    _, found = fits
    means, sds, errors = [], [], []
    for fit in found.values():
        draws = log_odds(fit)
        size = [float(ess(draws[..., i])) for i in range(3)]
        means.append(draws.mean(axis=(0, 1)))
        sds.append(draws.std(axis=(0, 1)))
        errors.append(sds[-1] / np.sqrt(size))
    error = np.hypot(*errors)
    np.testing.assert_array_less(np.abs(means[0] - means[1]), 4 * error)
    np.testing.assert_array_less(np.abs(sds[0] - sds[1]), 4 * error)


def test_intervals_hold_the_truth(fits):
    """Log odds of the first cluster against the second: -0.5 + 1.5 w."""
    _, found = fits
    truth = -GATES[1] @ np.array([[1.0, 1.0, 1.0], [-1.0, 0.0, 1.0]])
    for fit in found.values():
        low, high = np.quantile(log_odds(fit), [0.005, 0.995], axis=(0, 1))
        assert np.all((low < truth) & (truth < high))


def test_a_loaded_variational_fit_draws_as_before(tmp_path):
    fit = cw.Model("y ~ x", weights=cw.Gated("w")).fit(
        simulated(120, 5), cw.VI(n_init=2), random_state=0
    )
    fit.save(tmp_path / "fit")
    loaded = cw.load(tmp_path / "fit")
    np.testing.assert_array_equal(loaded.summary().table, fit.summary().table)
    weights = loaded.posterior["posterior"]["weights"].to_numpy()
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    assert np.all(np.diff(fit.history) >= -1e-9 * fit.n_rows)
