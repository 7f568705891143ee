"""`clusterwise demo`: four data sets, fitted and explained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clusterwise.core.errors import FileError
from clusterwise.data import load
from clusterwise.fit import Fit
from clusterwise.model import Model
from clusterwise.output import check_folder, write_fit
from clusterwise.plots import figure_of, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BILL_AND_FLIPPER = "bill_length_mm + bill_depth_mm + flipper_length_mm"
FOUR_MEANS = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
FOUR_SLOPES = np.array([[1, 4], [3, 2], [4, 1], [-3, -2]])


@dataclass(frozen=True)
class Told:
    """A fitted story: its data, its fit, what it says, and how it is drawn."""

    data: pd.DataFrame
    fit: Fit
    lines: list[str]
    draw: Callable[[], Axes]


@dataclass(frozen=True)
class Story:
    """One part of the demonstration, in a folder of its own."""

    name: str
    title: str
    tell: Callable[[bool], Told]


def run_demo(
    output: Path,
    say: Callable[[str], Any] = print,
    progress: bool = False,
    stories: Iterable[Story] | None = None,
) -> None:
    """Tell the stories and write each to a folder.

    Parameters
    ----------
    output : Path
        A folder that does not exist, is empty, or holds an earlier demonstration.
    say : callable
        Takes a line of text.
    progress : bool, default False
        Whether to show progress on standard error.
    stories : iterable of Story, optional
        Those to tell; all by default.

    Raises
    ------
    FileError
        If the folder holds anything else.
    """
    chosen = list(STORIES if stories is None else stories)
    _check_output(output)
    for story in chosen:
        say(f"== {story.title} ==")
        told = story.tell(progress)

        def plot(path: Path, draw: Callable[[], Axes] = told.draw) -> None:
            figure_of(draw()).savefig(path)

        folder = output / story.name
        write_fit(told.fit, told.data, folder, seed=0, plot=plot)
        for line in told.lines:
            say(line)
        say(f"Written to {folder}/: report.html, fit.json, rows.parquet, plot.png, model/")
        say("")


def _check_output(output: Path) -> None:
    if not output.exists():
        return
    known = {story.name for story in STORIES}
    if not output.is_dir() or not {entry.name for entry in output.iterdir()} <= known:
        raise FileError(
            f"{str(output)!r} exists and is not an earlier demonstration; choose another output."
        )
    for name in known:
        check_folder(output / name)


def _penguins(progress: bool) -> Told:
    from sklearn.metrics import adjusted_rand_score

    data = load("penguins")
    model = Model(
        f"body_mass_g ~ {BILL_AND_FLIPPER}",
        n_components=3,
        covariates=BILL_AND_FLIPPER,
        prior="flat",
    )
    fit = model.fit(data, engine="em", random_state=0, progress=progress)
    clusters = fit.assign(data)
    species = data["species"].to_numpy()
    table = pd.crosstab(pd.Series(clusters, name="cluster"), pd.Series(species, name="species"))
    slopes = fit.coefficients["bill_depth_mm"]
    lines = [
        f"{fit.n_rows} penguins: body mass on three measurements, together with the density of",
        "those. Three clusters by maximum likelihood, without the species. Against the species:",
        *_indented(table.to_string()),
        f"Adjusted Rand index {adjusted_rand_score(species, clusters):.3f} (1: the same groups, "
        "0: chance).",
        "With equal flippers and bills as long, a bill 1 mm deeper goes with "
        f"{', '.join(f'{value:.0f}' for value in slopes)} g in",
        f"clusters {', '.join(map(str, slopes.index))}. {_starts(fit)}",
    ]

    def draw() -> Axes:
        left, right = new_axes(2)
        fit.plot.clusters(data, x="bill_length_mm", response="bill_depth_mm", ax=left)
        return fit.plot.predictions(data, ax=right)

    return Told(data, fit, lines, draw)


def _countries(progress: bool) -> Told:
    data = load("co2")
    model = Model("CO2 ~ GNP", n_components=2, prior="flat")
    fit = model.fit(data, engine="em", random_state=0, progress=progress)
    clusters, sure = fit.assign(data), fit.responsibilities(data).max(axis=1) > 0.9
    lines = [f"{fit.n_rows} countries: CO2 per head on gross national product per head, two lines."]
    for k in range(2):
        slope, sigma = fit.coefficients.loc[k, "GNP"], fit.dispersion.loc[k, "sigma"]
        lines.append(
            f"Cluster {k}: weight {fit.weights[k]:.2f}, slope {slope:+.3f}, sigma {sigma:.2f}, "
            f"{np.sum(clusters == k)} countries:"
        )
        named = data["country"].where(sure, data["country"] + "?")[clusters == k]
        lines += _wrapped(" ".join(named))
    lines += [
        "In the first, emissions hardly change with wealth; in the second they rise with it.",
        f"('?': the country may well belong to the other.) {_starts(fit)}",
    ]

    def draw() -> Axes:
        axes = fit.plot.clusters(data)
        for _, row in data.iterrows():
            axes.annotate(
                str(row["country"]), (row["GNP"], row["CO2"]), xytext=(4, 3), fontsize=6,
                textcoords="offset points", color="0.3",
            )  # fmt: skip
        return axes

    return Told(data, fit, lines, draw)


def _four_clusters(progress: bool) -> Told:
    model = Model("y ~ x1 + x2", n_components=4, covariates="x1 + x2")
    truth = {
        "weights": np.full(4, 0.25),
        "coefficients": np.column_stack([np.zeros(4), FOUR_SLOPES]),
        "sigma": 0.5,
        "means": FOUR_MEANS,
        "covariances": np.tile(0.1 * np.eye(2), (4, 1, 1)),
    }
    data = model.simulate(1000, truth, random_state=0)
    fit = model.fit(data, engine="gibbs", random_state=0, progress=progress)
    draws = fit.posterior["posterior"].to_dataset()
    low, high = (draws.quantile(q, dim=("chain", "draw")) for q in (0.005, 0.995))
    lines = [
        f"{fit.n_rows} rows drawn afresh, y with noise of sd 0.5; four chains of Gibbs sampling.",
        "99% intervals beside the truth:",
        "  cluster  quantity          truth        estimate      99% interval",
    ]
    inside = 0
    for k in range(4):
        true = int(np.square(FOUR_MEANS - fit.means.loc[k].to_numpy()).sum(axis=1).argmin())
        quantities = [
            ("mean of x1", "means", "covariate", "x1", FOUR_MEANS[true, 0]),
            ("mean of x2", "means", "covariate", "x2", FOUR_MEANS[true, 1]),
            ("Intercept", "coefficients", "coef", "Intercept", 0.0),
            ("slope of x1", "coefficients", "coef", "x1", FOUR_SLOPES[true, 0]),
            ("slope of x2", "coefficients", "coef", "x2", FOUR_SLOPES[true, 1]),
        ]
        for label, variable, dimension, name, value in quantities:
            place = {"component": k, dimension: name}
            ends = [float(end[variable].sel(place)) for end in (low, high)]
            estimate = float(draws[variable].sel(place).mean())
            inside += ends[0] <= value <= ends[1]
            lines.append(
                f"  {k:7d}  {label:14s} {value:8.1f} {estimate:15.2f}"
                f"      {ends[0]:6.2f} to {ends[1]:5.2f}"
            )
    lines.append(f"The truth is inside {inside} of 20 intervals.")

    def draw() -> Axes:
        left, right = new_axes(2)
        fit.plot.clusters(data, x="x1", response="x2", ax=left)
        return fit.plot.predictions(data, ax=right)

    return Told(data, fit, lines, draw)


def _two_lines(progress: bool) -> Told:
    model = Model("y ~ x", n_components=2)
    x = np.random.default_rng(0).uniform(-1, 1, 100_000)
    truth = {"weights": [0.5, 0.5], "coefficients": [[0, 3], [0, -1]], "sigma": 0.1}
    data = model.simulate(None, truth, random_state=1, data={"x": x})
    fit = model.fit(data, engine="vi", random_state=0, progress=progress)
    table = fit.summary().table
    lines = [
        f"{fit.n_rows} rows on two lines, slopes 3 and -1, sigma 0.1; variational inference,",
        f"{fit.n_iter} iterations over all rows. Estimates, standard deviations in brackets:",
    ]
    for k in range(2):
        slope, deviation = table.loc[k, "x"], table.loc[k, "x (sd)"]
        lines.append(
            f"  cluster {k}: weight {fit.weights[k]:.4f}, slope {slope:.4f} ({deviation:.4f}), "
            f"sigma {fit.dispersion.loc[k, 'sigma']:.4f}"
        )
    lines.append(_starts(fit))
    return Told(data, fit, lines, lambda: fit.plot.clusters(data))


def _starts(fit: Fit) -> str:
    best = fit.restarts[fit.restarts["chosen"]].iloc[0]
    return f"{best['reached']} of {best['starts']} starts ended in this optimum."


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 76, initial_indent="  ", subsequent_indent="  ")


STORIES = (
    Story("penguins", "Palmer penguins: three species, not shown", _penguins),
    Story("co2", "CO2 and wealth of 28 countries", _countries),
    Story("four-clusters", "Four clusters, each with its own regression", _four_clusters),
    Story("two-lines", "Two lines in 100,000 points", _two_lines),
)
