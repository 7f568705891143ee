"""The posterior as a DataTree: what is in it, and that ArviZ takes it as it is."""

import importlib
import warnings

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import kstest, norm

import clusterwise as cw
from clusterwise.inference import posterior as posterior_module
from clusterwise.inference.lazy import LazyDraws

pytestmark = pytest.mark.long

N = 80
GIBBS = cw.Gibbs(num_warmup=100, num_samples=200)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, N)
    y = np.where(rng.random(N) < 0.4, 3 * x + 1, 1 - x) + 0.4 * rng.normal(size=N)
    return pd.DataFrame({"x": x, "y": 10 * y, "w": rng.integers(0, 3, N)})


@pytest.fixture(scope="module")
def fit(data):
    return cw.Model("y ~ x", n_components=2).fit(data, engine=GIBBS, random_state=0)


@pytest.fixture(scope="module")
def joint(data):
    model = cw.Model("y ~ x", covariates="x", n_components=2, sample_weight="w")
    return model.fit(data, engine="vi", random_state=0)


def component_scores(tree, data):
    """SciPy's log density of y under each component of each draw (chain, draw, row, k)."""
    draws = tree["posterior"].to_dataset()
    coefficients = draws["coefficients"].to_numpy()[:, :, None]
    mean = coefficients[..., 0] + coefficients[..., 1] * data["x"].to_numpy()[:, None]
    score = norm.logpdf(data["y"].to_numpy()[:, None], mean, draws["sigma"].to_numpy()[:, :, None])
    return score, np.log(draws["weights"].to_numpy())[:, :, None]


def test_log_likelihood_is_scipys(fit, data):
    score, log_weights = component_scores(fit.posterior, data)
    expected = logsumexp(score + log_weights, axis=3)
    found = fit.posterior["log_likelihood"]["y"]
    assert found.dims == ("chain", "draw", "obs_id")
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    total = fit.posterior["sample_stats"]["total_log_likelihood"]
    np.testing.assert_allclose(found.sum("obs_id"), total, rtol=1e-9)


def test_joint_log_likelihood_has_both_densities_and_no_row_of_weight_zero(joint, data):
    tree = joint.posterior
    kept = data[data["w"] > 0]
    np.testing.assert_array_equal(tree["log_likelihood"]["obs_id"], kept.index)
    score, log_weights = component_scores(tree, kept)
    draws = tree["posterior"].to_dataset()
    mean = draws["means"].to_numpy()[:, :, None, :, 0]
    sd = np.sqrt(draws["covariance"].to_numpy()[:, :, None, :, 0, 0])
    score = score + norm.logpdf(kept["x"].to_numpy()[:, None], mean, sd)
    expected = logsumexp(score + log_weights, axis=3)
    assert list(tree["log_likelihood"].data_vars) == ["rows"]
    np.testing.assert_allclose(tree["log_likelihood"]["rows"], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(tree["constant_data"]["x"], kept["x"], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(tree["constant_data"]["sample_weight"], kept["w"])
    np.testing.assert_allclose(tree["observed_data"]["y"], kept["y"], rtol=1e-12, atol=1e-9)


def test_nothing_is_computed_before_it_is_used_and_only_what_is_asked_for(fit, monkeypatch):
    asked = []
    whole = LazyDraws._outer

    def spy(self, key):
        values = whole(self, key)
        asked.append(values.size)
        return values

    monkeypatch.setattr(LazyDraws, "_outer", spy)
    tree = fit._record.tree()
    tree["posterior"].to_dataset()
    repr(tree)
    assert not asked
    new = tree["posterior_predictive"]["y"]
    some = new.sel(chain=2).isel(draw=[5, 3], obs_id=slice(70, 60, -2)).to_numpy()
    one = new.isel(chain=1, draw=2, obs_id=3).item()
    assert asked == [10, 1]
    np.testing.assert_array_equal(some, new.to_numpy()[2][[5, 3]][:, 70:60:-2])
    assert one == new.to_numpy()[1, 2, 3]
    assert asked == [10, 1, 4 * 200 * N]


@pytest.mark.parametrize("name", ["fit", "joint"])
def test_replicates_come_from_the_predictive_distribution(name, data, request):
    tree = request.getfixturevalue(name).posterior
    draws = tree["posterior"].to_dataset()
    used = data.loc[tree["observed_data"]["obs_id"].to_numpy()]
    _, log_weights = component_scores(tree, used)
    x = used["x"].to_numpy()[:, None]
    if name == "joint":
        mean = draws["means"].to_numpy()[:, :, None, :, 0]
        sd = np.sqrt(draws["covariance"].to_numpy()[:, :, None, :, 0, 0])
        log_weights = log_weights + norm.logpdf(x, mean, sd)
    weights = np.exp(log_weights - logsumexp(log_weights, axis=3, keepdims=True))
    coefficients = draws["coefficients"].to_numpy()[:, :, None]
    mean = coefficients[..., 0] + coefficients[..., 1] * x
    y = tree["posterior_predictive"]["y"].to_numpy()
    below = norm.cdf(y[..., None], mean, draws["sigma"].to_numpy()[:, :, None])
    level = (weights * below).sum(axis=3)
    # Independent and uniform over all draws and rows.
    assert kstest(level[:, ::7].ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(level[0, :-1].ravel(), level[0, 1:].ravel())[0, 1]) < 0.05


def test_arviz_stats_take_it(fit, joint, data):
    tree = fit.posterior
    found = arviz_stats.loo(tree)
    # Importance sampling without smoothing, which the observations here hardly need.
    score = tree["log_likelihood"]["y"].to_numpy().reshape(-1, N)
    plain = np.log(len(score)) - logsumexp(-score, axis=0)
    assert found.elpd == pytest.approx(plain.sum(), abs=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(arviz_stats.loo(joint.posterior).elpd)
    other = cw.Model("y ~ x", n_components=1).fit(data, engine=GIBBS, random_state=0)
    table = arviz_stats.compare({"two": fit.posterior, "one": other.posterior})
    assert list(table.index) == ["two", "one"]
    assert "coefficients[1, x]" in arviz_stats.summary(tree).index
    assert float(arviz_stats.ess(tree)["sigma"].min()) > 100
    assert float(arviz_stats.rhat(tree)["weights"].max()) < 1.05


def test_arviz_plots_take_it(fit):
    with warnings.catch_warnings():
        # The last arviz-plots for Python 3.11 looks for this module, which Matplotlib 3.11
        # imports no more by itself.
        warnings.simplefilter("ignore")
        importlib.import_module("matplotlib.style.core")
        from matplotlib import pyplot

        pyplot.switch_backend("agg")
        import arviz_plots

        with pyplot.style.context("arviz-variat"):
            for plot in (arviz_plots.plot_trace, arviz_plots.plot_forest):
                plot(fit.posterior, var_names=["sigma"])
            arviz_plots.plot_ppc_dist(fit.posterior, num_samples=20)
        pyplot.close("all")


def test_permutations_lead_back_to_the_samplers_numbers(fit):
    found = fit.posterior["sample_stats"]["permutation"]
    assert found.dims == ("chain", "draw", "component")
    np.testing.assert_array_equal(np.sort(found, axis=2), np.broadcast_to([0, 1], found.shape))


def test_saved_fit_has_the_posterior_for_other_programs(fit, joint, tmp_path):
    fit.save(tmp_path / "fit")
    with xr.open_datatree(tmp_path / "fit" / "posterior.nc", engine="h5netcdf") as written:
        xr.testing.assert_equal(written.load(), fit.posterior)
        assert written.attrs == fit.posterior.attrs
    (tmp_path / "fit" / "posterior.nc").unlink()
    xr.testing.assert_equal(cw.load(tmp_path / "fit").posterior, fit.posterior)
    fit.save(tmp_path / "fit")
    joint.save(tmp_path / "fit")
    assert not (tmp_path / "fit" / "posterior.nc").exists()
    loaded = cw.load(tmp_path / "fit").posterior
    assert "rows are not saved" in loaded.attrs["groups_left_out"]
    assert "log_likelihood" not in loaded.children
    # Without its group, arviz-stats would take the total for a row.
    with pytest.raises(TypeError, match="log likelihood not found"):
        arviz_stats.loo(loaded)


def test_huge_groups_are_not_written(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(posterior_module, "_MOST_NUMBERS", 4 * 200 * N - 1)
    fit.save(tmp_path / "fit")
    with xr.open_datatree(tmp_path / "fit" / "posterior.nc", engine="h5netcdf") as written:
        assert set(written.children) == {"posterior", "sample_stats", "observed_data"}
        assert "64000 numbers" in written.attrs["groups_left_out"]
    assert "groups_left_out" not in fit.posterior.attrs
