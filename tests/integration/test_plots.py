"""Plots: what is drawn where, with names that would upset matplotlib."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

import clusterwise as cw
from clusterwise.core.errors import DataError, OptionError
from clusterwise.plots import canvas, figure_of, new_axes, rows
from clusterwise.plots.chains import as_sampled, rank_counts
from clusterwise.plots.checks import smooth_density

pytestmark = pytest.mark.long

ODD = "net_$ per_$unit"


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 200
    z = rng.random(n) < 0.4
    x = np.where(z, 1.0, -1.0) + rng.normal(size=n)
    y = np.where(z, 2 + 3 * x, -x) + 0.3 * rng.normal(size=n)
    place = np.where(z, "in_$a$", "<b>out</b>")
    place[::5] = "in_$a$"
    return pd.DataFrame({ODD: x, "v": rng.normal(size=n), "y_1": y, "place": place})


@pytest.fixture(scope="module")
def fit(frame):
    model = cw.Model(f"y_1 ~ `{ODD}` + v", covariates=f"`{ODD}` + v + place")
    return model.fit(frame, engine="em", random_state=0)


@pytest.fixture(scope="module")
def sampled(frame):
    engine = cw.Gibbs(num_warmup=30, num_samples=40, num_chains=2, n_init=2)
    return cw.Model(f"y_1 ~ `{ODD}`").fit(frame, engine=engine, random_state=0)


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(1)
    n = 150
    z, x = rng.random(n) < 0.5, rng.normal(size=n)
    kind = np.array(["bus", "_car", "tr$ain"])[rng.integers(3, size=n)]
    count = rng.poisson(np.exp(np.where(z, 2 + 0.3 * x, 0.5 - x)))
    return pd.DataFrame({"x": x, "count": count, "kind": kind})


@pytest.fixture(scope="module")
def two(counts):
    model = cw.Model(["count ~ x", "kind ~ x"], family=["poisson", "categorical"])
    return model.fit(counts, engine=cw.EM(n_init=2), random_state=0)


def drawn(axes):
    """Render, so that text which matplotlib cannot set is found."""
    file = io.BytesIO()
    figure_of(axes).savefig(file, format="png", dpi=30)
    assert file.getvalue().startswith(b"\x89PNG")
    return axes


def line(ax, label):
    """The data (2, n) of the line with a label."""
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return np.asarray(found.get_data(), float)


def points(ax, k):
    (found,) = [c for c in ax.collections if c.get_label() == f"cluster {k}"]
    return np.asarray(found.get_offsets())


def edges_of(ax, k):
    """Ends (2, n) of a band upwards."""
    (found,) = [c for c in ax.collections if c.get_label() == f"band {k}"]
    low, high = found.get_paths()[0].get_extents().intervaly
    return low, high


# -- clusters ------------------------------------------------------------------------------------


def test_lines_follow_the_coefficients_with_the_others_at_their_means(fit, frame):
    ax = drawn(fit.plot.clusters(frame))
    for k in range(2):
        x, y = line(ax, f"mean of cluster {k}")
        own = fit.coefficients.loc[k]
        expected = own["Intercept"] + own[ODD] * x + own["v"] * frame["v"].mean()
        np.testing.assert_allclose(y, expected, rtol=1e-9)
        sigma, z = fit.dispersion.loc[k, "sigma"], stats.norm.ppf(0.95)
        ends = edges_of(ax, k)
        np.testing.assert_allclose(ends[0], expected.min() - z * sigma, rtol=1e-6)
        np.testing.assert_allclose(ends[1], expected.max() + z * sigma, rtol=1e-6)


def test_rows_are_coloured_by_cluster(fit, frame):
    ax = fit.plot.clusters(frame)
    labels = fit.assign(frame)
    for k in range(2):
        expected = frame.loc[labels == k, [ODD, "y_1"]].to_numpy()
        np.testing.assert_allclose(points(ax, k), expected)


def test_clusters_weighted_are_the_prediction_of_all(fit, frame):
    # p(z | x) under the joint model; an identity that the lines were not made by.
    said = fit.component_predictions(frame)
    given = fit.responsibilities(frame, use_response=False)
    np.testing.assert_allclose((given * said.mean()).sum(axis=1), fit.predict(frame), rtol=1e-9)
    mixed = np.einsum("nk,nkg->ng", given[:3], fit.component_predictions(frame[:3]).density(
        frame["y_1"].to_numpy()[:3]
    ))  # fmt: skip
    np.testing.assert_allclose(np.diag(mixed), fit.predict(frame[:3], "density"), rtol=1e-9)


def test_names_are_shown_as_they_are(fit, frame):
    ax = drawn(fit.plot.clusters(frame))
    assert ax.get_xlabel() == ODD.replace("$", r"\$")
    assert ax.get_ylabel() == "y_1"


def test_long_names_lose_their_middle():
    text = canvas.plain("begin " + "x" * 200 + "\nend")
    assert len(text) <= 40 and text.startswith("begin") and text.endswith(" end")
    assert canvas.plain("a $b$\n<i>\U0001f600") == "a \\$b\\$ <i>\U0001f600"


def test_clusters_look_different_beyond_their_colour():
    looks = [canvas.style_of(k) for k in range(40)]
    assert len({(s.colour, s.marker) for s in looks}) == 40
    assert len({(s.colour, str(s.dashes)) for s in looks}) == 40


def test_two_columns_have_an_ellipse_for_each_cluster(fit, frame):
    ax = drawn(fit.plot.clusters(frame, x=ODD, response="v"))
    for k in range(2):
        curve = line(ax, f"ellipse of cluster {k}").T
        gap = curve - fit.means.loc[k, [ODD, "v"]].to_numpy()
        inverse = np.linalg.inv(fit.covariances[k].to_numpy())
        np.testing.assert_allclose(np.einsum("ni,ij,nj->n", gap, inverse, gap), 4, rtol=1e-8)


def test_counts_and_levels_are_drawn_as_such(two, counts):
    ax = drawn(two.plot.clusters(counts, response="count"))
    x, y = line(ax, "mean of cluster 0")
    own = two.coefficients.loc[0, "count"]
    np.testing.assert_allclose(y, np.exp(own["Intercept"] + own["x"] * x), rtol=1e-8)
    panels = drawn(two.plot.clusters(counts, response="kind"))
    total = sum(line(ax, "mean of cluster 1")[1] for ax in panels)
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    labels, levels = two.assign(counts), sorted(counts["kind"].unique())
    for ax, level in zip(panels, levels, strict=True):
        jittered = points(ax, 1)[:, 1]
        np.testing.assert_array_equal(np.round(jittered), counts["kind"][labels == 1] == level)


def test_one_column_is_a_histogram_with_densities(frame):
    fit = cw.Model(None, covariates="y_1").fit(frame, engine=cw.EM(n_init=2), random_state=0)
    ax = drawn(fit.plot.clusters(frame))
    area = sum(bar.get_height() * bar.get_width() for bar in ax.patches)
    np.testing.assert_allclose(area, 1, rtol=1e-9)
    x, y = line(ax, "mean of cluster 0")
    sd = np.sqrt(fit.covariances[0].iloc[0, 0])
    expected = fit.weights[0] * stats.norm.pdf(x, fit.means.loc[0, "y_1"], sd)
    np.testing.assert_allclose(y, expected, rtol=1e-9)


# -- estimates -----------------------------------------------------------------------------------


def test_partial_dependence_of_a_linear_term_is_its_line(fit, frame):
    panels = drawn(fit.plot.partial_dependence(frame))
    for ax, term, other in zip(panels, (ODD, "v"), ("v", ODD), strict=True):
        x, y = line(ax, "mean of cluster 1")
        own = fit.coefficients.loc[1]
        expected = own["Intercept"] + own[term] * x + own[other] * frame[other].mean()
        np.testing.assert_allclose(y, expected, rtol=1e-9)
    with pytest.raises(OptionError, match="place"):
        fit.plot.partial_dependence(frame, "place")


def test_partial_dependence_has_intervals_of_draws(sampled, frame):
    ax = sampled.plot.partial_dependence(frame, level=0.8)
    x, y = line(ax, "mean of cluster 0")
    draws = sampled.posterior["posterior"]["coefficients"].sel(component=0).to_numpy()
    at = draws[..., 0] + draws[..., 1] * x.min()
    low, high = np.quantile(at, [0.1, 0.9])
    (band,) = [c for c in ax.collections if c.get_label() == "band 0"]
    vertices = band.get_paths()[0].vertices
    ends = np.sort(vertices[vertices[:, 0] == x.min(), 1])
    # 80 draws all of which are used.
    np.testing.assert_allclose([ends[0], ends[-1]], [low, high], rtol=1e-6)
    np.testing.assert_allclose(y[0], at.mean(), rtol=1e-6)


def test_coefficients_have_points_and_given_errors(fit, sampled):
    panels = drawn(fit.plot.coefficients())
    assert len(panels) == 3
    for ax, term in zip(panels, fit.coefficients, strict=True):
        for k, bar in enumerate(ax.containers):
            assert bar.lines[0].get_xdata()[0] == fit.coefficients.loc[k, term]
            assert not bar.has_xerr
    errors = fit.coefficients * 0 + 0.5
    bars = fit.plot.coefficients(errors=errors, level=0.9)[1].containers
    low, high = bars[0].lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(high - low, 2 * 0.5 * stats.norm.ppf(0.95), rtol=1e-9)
    draws = sampled.posterior["posterior"]["coefficients"].to_numpy()[:, :, 1, 1]
    segment = sampled.plot.coefficients()[1].containers[1].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 0], np.quantile(draws, [0.05, 0.95]), rtol=1e-9)
    with pytest.raises(OptionError, match="errors="):
        fit.plot.coefficients(errors=errors.iloc[:, :1])


def test_profile_is_the_matrix_of_means_and_levels(fit, sampled):
    means, levels = drawn(fit.plot.profile())
    shown = np.asarray(means.images[0].get_array())
    weights = fit.weights.to_numpy()
    for row, name in zip(shown, fit.means, strict=True):
        # The variance of all rows is that within clusters and that of their means.
        within = weights @ [c.loc[name, name] for c in fit.covariances]
        gap = fit.means[name] - weights @ fit.means[name]
        np.testing.assert_allclose(row, gap / np.sqrt(within + weights @ gap**2), rtol=1e-9)
    np.testing.assert_allclose(levels.images[0].get_array(), fit.levels["place"].to_numpy().T)
    texts = [t.get_text() for t in levels.texts]
    assert texts == [f"{v:.2f}" for v in fit.levels["place"].to_numpy().T.ravel()]
    assert levels.get_yticklabels()[1].get_text() == r"place = in_\$a\$"
    with pytest.raises(OptionError, match="density of covariates"):
        sampled.plot.profile()


# -- memberships ---------------------------------------------------------------------------------


def test_responsibilities_are_distribution_functions(fit, frame):
    largest, entropy = drawn(fit.plot.responsibilities(frame))
    resp = fit.responsibilities(frame)
    own = resp[resp.argmax(axis=1) == 1]
    x, y = line(largest, "cluster 1")
    np.testing.assert_allclose(x[1:], np.sort(own.max(axis=1)))
    np.testing.assert_allclose(y[[0, -1]], [0, 1])
    expected = np.sort(stats.entropy(own, base=2, axis=1))
    np.testing.assert_allclose(line(entropy, "cluster 1")[0][1:], expected, atol=1e-12)
    ax = fit.plot.responsibilities(frame, clusters=(0, 1))
    np.testing.assert_allclose(points(ax, 1), own[:, [0, 1]])
    with pytest.raises(OptionError, match="two different"):
        fit.plot.responsibilities(frame, clusters=(0, 2))


def test_similarity_is_the_matrix_in_order(sampled, fit, frame):
    ax = drawn(sampled.plot.similarity(frame[:60], n_draws=20))
    shown = np.asarray(ax.images[0].get_array())
    matrix = sampled.similarity(frame[:60], 20)
    np.testing.assert_allclose(np.sort(shown, axis=None), np.sort(matrix, axis=None))
    labels = sampled.partition(frame[:60], n_draws=20).labels
    # Sizes of groups are the ends of the white lines.
    expected = np.cumsum(np.bincount(labels))[:-1] - 0.5
    np.testing.assert_allclose([one.get_ydata()[0] for one in ax.lines[::2]], expected)
    own = matrix[labels == 0][:, labels == 0]
    size = len(own)
    np.testing.assert_allclose(shown[:size, :size].sum(), own.sum())
    with pytest.raises(OptionError, match="posterior"):
        fit.plot.similarity(frame)


# -- chains --------------------------------------------------------------------------------------


def test_traces_are_the_draws(sampled, fit):
    ax = drawn(sampled.plot.trace("weight"))
    weights = sampled.posterior["posterior"]["weights"].to_numpy()
    for chain in range(2):
        x, y = line(ax, f"cluster 1, chain {chain}")
        np.testing.assert_allclose(y, weights[chain, :, 1])
        np.testing.assert_allclose(x, np.arange(40) + 40 * chain)
    assert len(sampled.plot.trace()) == 4  # weight, two coefficients, sigma
    assert len(sampled.plot.trace("coefficient")) == 2
    with pytest.raises(OptionError, match=r"nothing.*'weight'"):
        sampled.plot.trace("nothing")
    with pytest.raises(OptionError, match="chains"):
        fit.plot.trace()


def test_ranks_count_each_chain(sampled):
    values = np.array([[1.0, 2.0, 3.0, 9.0], [4.0, 5.0, 6.0, 7.0]])
    np.testing.assert_array_equal(rank_counts(values, 2), [[3, 1], [1, 3]])
    left, _ = drawn(sampled.plot.ranks("sigma"))
    draws = sampled.posterior["posterior"]["sigma"].to_numpy()[..., 0]
    for chain, patch in enumerate(left.patches):
        own = stats.rankdata(draws).reshape(draws.shape)[chain]
        expected = np.bincount(((own - 1) // 4).astype(int), minlength=20)
        np.testing.assert_array_equal(patch.get_data().values, expected)


def test_switching_shows_labels_as_they_were(sampled, monkeypatch):
    values = np.array([[[1.0, 2.0], [1.1, 2.1]]])
    swapped = as_sampled(values, np.array([[[0, 1], [1, 0]]]))
    np.testing.assert_array_equal(swapped, [[[1.0, 2.0], [2.1, 1.1]]])
    before, after = drawn(sampled.plot.switching("weight"))
    raw, weights = line(before, "cluster 0, chain 0")[1], line(after, "cluster 0, chain 0")[1]
    draws = sampled.posterior["posterior"]["weights"].to_numpy()[0]
    np.testing.assert_allclose(weights, draws[:, 0])
    place = np.argsort(sampled.permutation[0], axis=1)[:, 0]
    np.testing.assert_allclose(raw, draws[np.arange(40), place])


# -- checks --------------------------------------------------------------------------------------


def test_residuals_of_a_gaussian_are_standardised(fit, frame):
    labels = np.arange(len(frame)) % 2
    said = fit.component_predictions(frame, observed=True)
    found = said.residuals(labels, np.random.default_rng(0))
    sigma = fit.dispersion["sigma"].to_numpy()[labels]
    mean = fit.component_predictions(frame).mean()[np.arange(len(frame)), labels]
    # Also those far out, where a distribution function alone would be 0 or 1.
    expected = (frame["y_1"] - mean) / sigma
    assert np.abs(expected).max() > 9
    near = np.abs(expected) < 30
    np.testing.assert_allclose(found[near], expected[near], rtol=1e-6, atol=1e-9)
    scatter, normal = drawn(fit.plot.residuals(frame))
    shown = np.sort(np.concatenate([points(scatter, k)[:, 1] for k in range(2)]))
    both = np.sort(np.concatenate([line(normal, f"cluster {k}")[1] for k in range(2)]))
    np.testing.assert_allclose(shown, both)
    assert stats.kstest(shown, "norm").pvalue > 0.01


def test_residuals_of_counts_are_normal_if_the_model_holds(two, counts):
    panels = drawn(two.plot.residuals(counts))
    shown = np.concatenate([points(panels[0], k)[:, 1] for k in range(2)])
    assert stats.kstest(shown, "norm").pvalue > 0.01
    with pytest.raises(OptionError, match=r"order.*posterior_predictive"):
        two.plot.residuals(counts, response="kind")


def test_predictive_bars_are_counts(two, counts):
    ax = drawn(two.plot.posterior_predictive(counts, response="kind", n_samples=10))
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_array_equal(heights, counts["kind"].value_counts().sort_index())
    assert [t.get_text() for t in ax.get_xticklabels()] == ["_car", "bus", r"tr\$ain"]
    ax = two.plot.posterior_predictive(counts, response="count", n_samples=30)
    assert sum(bar.get_height() for bar in ax.patches) == len(counts)
    means = ax.containers[1].lines[0].get_ydata()
    np.testing.assert_allclose(np.sum(means), len(counts))
    # Replicated counts have the model's mean: 150 rows of 30 data sets.
    said = two.component_predictions(counts, "count")
    drawn_counts = said.replicate(30, np.random.default_rng(0))
    expected = two.predict(counts, response="count").mean()
    error = drawn_counts.std() / np.sqrt(drawn_counts.size)
    assert abs(drawn_counts.mean() - expected) < 5 * error


def test_predictive_densities_are_kernel_densities(fit, frame):
    ax = drawn(fit.plot.posterior_predictive(frame, n_samples=3))
    x, y = line(ax, "observed")
    values = frame["y_1"].to_numpy()
    width = 0.9 * min(values.std(), stats.iqr(values) / 1.349) * len(values) ** -0.2
    exact = stats.gaussian_kde(values, width / values.std(ddof=1))(x)
    np.testing.assert_allclose(y, exact, rtol=1e-9)
    assert len(ax.lines) == 4
    np.testing.assert_allclose(np.trapezoid(smooth_density(values, x, width), x), 1, atol=0.02)


def test_predictions_use_the_cluster_of_the_row(fit, frame):
    ax = drawn(fit.plot.predictions(frame))
    both = np.concatenate([points(ax, k) for k in range(2)])
    # Each row lies near the line of its cluster: sigma is 0.3.
    assert np.std(both[:, 0] - both[:, 1]) < 0.4


# -- search --------------------------------------------------------------------------------------


def test_restarts_and_history_are_those_of_the_fit(fit):
    ax = drawn(fit.plot.restarts())
    heights = {bar.get_y(): bar.get_width() for bar in ax.patches}
    table = fit.restarts.sort_values("objective", ascending=False)
    np.testing.assert_array_equal([heights[y] for y in sorted(heights)], table["reached"][:25])
    x, y = line(drawn(fit.plot.history()), "objective")
    np.testing.assert_allclose(y, fit.history)
    assert x[0] == 1


def test_degenerate_optima_are_marked(fit):
    table = fit.restarts.head(1)
    fit.restarts = pd.concat([table.assign(degenerate=True, chosen=False), table.assign(
        objective=table["objective"] - 1, degenerate=False)], ignore_index=True)  # fmt: skip
    ax = fit.plot.restarts()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["chosen", "degenerate"]
    hatched = [bar for bar in ax.patches if bar.get_hatch()]
    assert len(hatched) == 1 and round(hatched[0].get_y() + 0.4) == 0


# -- where and how -------------------------------------------------------------------------------


def test_axes_are_drawn_into_and_returned(fit, frame):
    left, right = new_axes(2)
    assert fit.plot.clusters(frame, x=ODD, response="v", ax=left) is left
    assert fit.plot.clusters(frame, ax=right) is right
    figure = Figure(layout="constrained")
    grid = figure.subplots(1, 2)
    panels = fit.plot.responsibilities(frame, ax=grid)
    assert list(panels) == list(grid)
    divided = fit.plot.responsibilities(frame, ax=Figure(layout="constrained").subplots())
    assert all(isinstance(ax, Axes) for ax in drawn(divided))
    into = Figure()
    assert fit.plot.profile(ax=into)[0].figure is into
    with pytest.raises(OptionError, match="2 Axes for the 2 panels"):
        fit.plot.responsibilities(frame, ax=[left])
    with pytest.raises(OptionError, match="2 panels"):
        fit.plot.responsibilities(frame, ax=Figure().add_axes((0, 0, 1, 1)))


def test_many_rows_are_thinned_and_the_title_says_so(fit, frame, monkeypatch, tmp_path):
    monkeypatch.setattr(rows, "MAX_ROWS", 50)
    monkeypatch.setattr(rows, "_BATCH", 30)
    frame.to_parquet(tmp_path / "data.parquet")
    ax = fit.plot.clusters(tmp_path / "data.parquet")
    shown = np.concatenate([points(ax, k) for k in range(2)])
    assert len(shown) == len(np.unique(shown[:, 0])) == 50
    assert "50 of 200 rows" in ax.get_title("left").replace("\n", " ")
    assert np.isin(shown[:, 1].round(9), frame["y_1"].round(9)).all()
    again = fit.plot.clusters(tmp_path / "data.parquet")
    np.testing.assert_array_equal(shown, np.concatenate([points(again, k) for k in range(2)]))


def test_rows_with_missing_values_are_left_out_and_counted(fit, frame):
    gaps = frame.assign(v=frame["v"].where(np.arange(len(frame)) > 9))
    ax = drawn(fit.plot.clusters(gaps))
    assert sum(len(points(ax, k)) for k in range(2)) == len(frame) - 10
    assert "10 with missing values left out" in ax.get_title("left").replace("\n", " ")
    with pytest.raises(DataError, match="'v'"):
        fit.component_predictions(gaps)


def test_rows_of_groups_stay_together_and_in_order(frame, monkeypatch):
    some = frame.assign(id=np.arange(len(frame)) % 40)
    model = cw.Model("y_1 ~ v", groups="id", prior="flat")
    fit = model.fit(some, engine=cw.EM(n_init=2), random_state=0)
    said = fit.component_predictions(some, observed=True)
    design = np.column_stack([np.ones(len(some)), some["v"]])
    expected = design @ fit.coefficients.to_numpy().T
    np.testing.assert_allclose(said.mean(), expected, rtol=1e-9)
    np.testing.assert_allclose(said.response(), some["y_1"], rtol=1e-9, atol=1e-12)
    labels = fit.assign(some)
    gap = (some["y_1"] - expected[np.arange(len(some)), labels]) / fit.dispersion["sigma"][
        labels
    ].to_numpy()
    found = said.residuals(labels, np.random.default_rng(0))
    np.testing.assert_allclose(found, gap, rtol=1e-6, atol=1e-9)
    monkeypatch.setattr(rows, "MAX_ROWS", 52)
    kept = rows.shown_rows(fit, some).frame
    assert len(kept) == 50 and (kept.groupby("id").size() == 5).all()
    drawn(fit.plot.posterior_predictive(some, n_samples=2))


def test_thinning_does_not_follow_a_column(frame, fit, monkeypatch):
    monkeypatch.setattr(rows, "MAX_ROWS", 50)
    for seed in range(3):
        x = np.random.default_rng(seed).random(len(frame))
        shown = rows.shown_rows(fit, frame.assign(**{ODD: x})).frame
        # The mean of 50 uniform numbers has a standard deviation of 0.04.
        assert abs(shown[ODD].mean() - 0.5) < 0.2


def test_what_cannot_be_drawn_is_refused(fit, two, frame, counts):
    with pytest.raises(DataError, match="nothing"):
        fit.plot.clusters(frame, x="nothing", response="v")
    with pytest.raises(OptionError, match="x='place'"):
        fit.plot.clusters(frame, x="place")
    with pytest.raises(OptionError, match="response='other'"):
        two.plot.posterior_predictive(counts, response="other")
    with pytest.raises(OptionError, match="levels"):
        two.plot.predictions(counts, response="kind")


def test_no_global_state_is_touched():
    code = (
        "import sys, clusterwise.plots as p; assert 'matplotlib' not in sys.modules; "
        "p.new_axes(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
