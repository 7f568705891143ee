"""Plots: what is drawn where, with names that would upset matplotlib."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

import clusterwise as cw
from clusterwise import plots
from clusterwise.core.errors import DataError, OptionError

ODD = "net_$ per_$unit"


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 200
    z = rng.random(n) < 0.4
    x = np.where(z, 1.0, -1.0) + rng.normal(size=n)
    y = np.where(z, 2 + 3 * x, -x) + 0.3 * rng.normal(size=n)
    return pd.DataFrame({ODD: x, "v": rng.normal(size=n), "y_1": y})


@pytest.fixture(scope="module")
def fit(frame):
    model = cw.Model(f"y_1 ~ `{ODD}`", covariates=f"`{ODD}` + v")
    return model.fit(frame, engine="em", random_state=0)


def drawn(ax):
    """Render, so that text which matplotlib cannot set is found."""
    file = io.BytesIO()
    ax.figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
    return ax


def test_lines_follow_the_coefficients(fit, frame):
    ax = drawn(plots.plot_lines(fit, frame))
    lines = [line for line in ax.lines if len(line.get_xdata()) > 2]
    assert len(lines) == 2
    for k, line in enumerate(lines):
        intercept, slope = fit.coefficients.loc[k]
        expected = intercept + slope * np.asarray(line.get_xdata())
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-10)


def test_rows_are_coloured_by_cluster(fit, frame):
    ax = plots.plot_lines(fit, frame)
    labels = fit.assign(frame)
    points = [c for c in ax.collections if c.get_label().startswith("cluster")]
    for k, group in enumerate(points):
        shown = np.sort(np.asarray(group.get_offsets())[:, 1])
        np.testing.assert_allclose(shown, np.sort(frame["y_1"][labels == k]))


def test_names_are_shown_as_they_are(fit, frame):
    ax = drawn(plots.plot_lines(fit, frame))
    assert ax.get_xlabel() == ODD.replace("$", r"\$")
    assert ax.get_ylabel() == "y_1"


def test_predictions_use_the_cluster_of_the_row(fit, frame):
    ax = drawn(plots.plot_predictions(fit, frame))
    points = np.concatenate(
        [c.get_offsets() for c in ax.collections if c.get_label().startswith("cluster")]
    )
    # Each row lies near the line of its cluster: sigma is 0.3.
    assert np.std(points[:, 0] - points[:, 1]) < 0.4


def test_pairs_have_an_ellipse_for_each_cluster(fit, frame):
    ax = drawn(plots.plot_pairs(fit, frame, ODD, "v"))
    assert len(ax.lines) == 2
    centre = np.mean([line.get_xdata()[:-1].mean() for line in ax.lines[:1]])
    assert abs(centre - fit.means.loc[0, ODD]) < 1e-6
    assert not drawn(plots.plot_pairs(fit, frame, "v", "y_1")).lines


def test_axes_are_drawn_into_and_returned(fit, frame):
    left, right = plots.new_axes(2)
    assert plots.plot_pairs(fit, frame, ODD, "v", ax=left) is left
    assert plots.plot_fit(fit, frame, ax=right) is right
    assert isinstance(drawn(left), Axes)


def test_many_rows_are_thinned_and_the_title_says_so(fit, frame, monkeypatch, tmp_path):
    monkeypatch.setattr(plots, "MAX_ROWS", 50)
    monkeypatch.setattr(plots, "_BATCH", 30)
    frame.to_parquet(tmp_path / "data.parquet")
    ax = plots.plot_lines(fit, tmp_path / "data.parquet")
    shown = np.concatenate(
        [c.get_offsets() for c in ax.collections if c.get_label().startswith("cluster")]
    )
    assert len(shown) == 50
    assert len(np.unique(shown[:, 0])) == 50
    assert "50 of 200 rows shown" in ax.get_title()
    assert set(shown[:, 1]) <= set(frame["y_1"])


def test_thinning_does_not_follow_a_column(frame, fit, monkeypatch):
    monkeypatch.setattr(plots, "MAX_ROWS", 50)
    for seed in range(3):
        x = np.random.default_rng(seed).random(len(frame))
        rows, _, _ = plots._sample(fit, frame.assign(**{ODD: x}))
        # The mean of 50 uniform numbers has a standard deviation of 0.04.
        assert abs(rows[ODD].mean() - 0.5) < 0.2


def test_what_cannot_be_drawn_is_refused(fit, frame):
    with pytest.raises(DataError, match="nothing"):
        plots.plot_pairs(fit, frame, "nothing", "v")
    with pytest.raises(OptionError, match="response"):
        plots.plot_lines(fit, frame, response="v")


def test_a_plain_mixture_gives_pairs(frame):
    fit = cw.Model(None, covariates="v + y_1").fit(frame, engine="em", random_state=0)
    assert drawn(plots.plot_fit(fit, frame)).get_xlabel() == "v"
    with pytest.raises(OptionError, match="plot_pairs"):
        plots.plot_lines(fit, frame)


def test_no_global_state_is_touched():
    import subprocess
    import sys

    code = (
        "import sys, clusterwise.plots as p; assert 'matplotlib' not in sys.modules; "
        "p.new_axes(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
