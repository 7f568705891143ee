"""The bootstrap against refits from scratch, closed forms, and the observed information."""

import numpy as np
import pandas as pd
import pytest

import clusterwise as cw
from clusterwise.bootstrap import resampler
from clusterwise.refit import assemble_again

MODEL = cw.Model("y ~ x", prior="flat")


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    z, x = rng.random(120) < 0.4, rng.uniform(-2, 2, 120)
    y = np.where(z, 4 + 2 * x, -x) + 0.5 * rng.normal(size=120)
    data = pd.DataFrame({"x": x, "y": y})
    fit = MODEL.fit(data, engine=cw.EM(n_init=4), random_state=0)
    return fit, data, fit.bootstrap(data, 100, random_state=1)


def test_a_replicate_is_the_fit_of_the_rows_that_were_drawn(fitted):
    fit, data, found = fitted
    problem = assemble_again(fit.model, fit._record, data).problem
    draw = resampler(problem.source, None)
    weight = draw(np.random.default_rng(1).spawn(100)[7]).unpacked(0)[:, -1]
    assert weight.sum() == 120
    repeated = data.loc[data.index.repeat(weight.astype(int))].reset_index(drop=True)
    again = MODEL.fit(repeated, engine=cw.EM(n_init=4), random_state=0).summary().table
    own = found.replicates.loc[7]
    slopes = again["x"].to_numpy()
    order = np.argsort(np.abs(slopes[:, None] - own["x"].to_numpy()), axis=0)[0]
    assert sorted(order) == [0, 1]
    np.testing.assert_allclose(again.to_numpy()[order], own, atol=1e-3)


@pytest.mark.parametrize("kind", ["nonparametric", "parametric"])
def test_errors_are_close_to_the_observed_information(fitted, kind):
    """The spread of 100 replicates has an error of 7 per cent; both are estimates of one thing."""
    fit, data, found = fitted
    if kind == "parametric":
        found = fit.bootstrap(data, 100, kind=kind, random_state=2)
    errors = fit.standard_errors(data).table
    ratio = found.standard_errors / errors
    assert ratio.to_numpy().min() > 0.6
    assert ratio.to_numpy().max() < 1.6
    assert found.converged.all()
    assert not found.degenerate.any()
    low, high = found.interval(0.9)
    assert ((low < fit.summary().table) & (fit.summary().table < high)).to_numpy().all()
    assert (np.abs(found.bias) < 0.5 * errors).to_numpy().all()
    assert "100 replicates, 0 not converged, 0 degenerate" in str(found)


def test_seeds_repeat_and_wrong_options_are_refused(fitted):
    fit, data, found = fitted
    again = fit.bootstrap(data, 3, random_state=1)
    pd.testing.assert_frame_equal(again.replicates, found.replicates.loc[:2])
    with pytest.raises(cw.OptionError, match="kind='wild'"):
        fit.bootstrap(data, kind="wild")
    with pytest.raises(cw.OptionError, match="n_replicates=1"):
        fit.bootstrap(data, 1)
    with pytest.raises(cw.OptionError, match="level=2"):
        found.interval(2)
    with pytest.raises(cw.DataError, match="not the data of the fit"):
        fit.bootstrap(data.iloc[::2])
