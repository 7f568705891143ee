"""The report in a browser: what it computes, shows and loads, and who can read it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import clusterwise as cw
from clusterwise.report.document import page, write_report

pytestmark = pytest.mark.long

# Names that would be markup, code, mathematical text or too long, if they were not escaped.
X = "<img src=x onerror=alert(1)> \"quoted\" & 'single' {{ 7 * 7 }}"
G = "emoji 🐧 $a_b$ </script><script>alert(2)</script>"
LONG = "w" * 200
LEVELS = ["<b>bold</b>", "plain & simple"]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    n = 120
    # Clusters of unequal size that overlap, so that every term of their densities is seen.
    z = np.repeat([0, 1], [100, 20])
    x = rng.normal(np.where(z, 1.0, -1.0), 1.0)
    w = rng.uniform(1, 5, n)
    g = np.array(LEVELS)[(rng.random(n) < np.where(z, 0.8, 0.3)).astype(int)]
    y = np.where(z, 1 + x, 4 - 2 * x) + np.log(w) * (g == LEVELS[1]) + rng.normal(0, 0.5, n)
    count = rng.poisson(np.exp(np.where(z, 1.0, -0.5) + 0.1 * x) * w)
    data = pd.DataFrame({X: x, LONG: w, G: g, "y": y, "count": count})
    # Groups of two rows with one level.
    return data.assign(id=data.groupby(G).cumcount() // 2 + 1000 * (g == LEVELS[1]))


def fitted(rows, engine, formula, **options):
    return cw.Model(formula, **options).fit(rows, engine=engine, random_state=0)


@pytest.fixture(scope="module")
def fits(rows):
    formula = f"y ~ `{X}` * `{G}` + log({LONG}) + I({LONG}**2 / 10)"
    covariates = f"`{X}` + `{G}`"
    return {
        "em": fitted(rows, cw.EM(n_init=2), formula, covariates=covariates),
        "vi": fitted(rows, cw.VI(n_init=2), formula, covariates=f"`{X}`"),
        "gibbs": fitted(
            rows, cw.Gibbs(20, 30, 2, n_init=2), f"count ~ `{X}`", family="poisson",
            offset=f"log({LONG})", covariates=covariates,
        ),
        "gates": fitted(
            rows, cw.EM(n_init=2), f"y ~ `{X}`", weights=cw.Gated(f"`{G}` + I(`{X}` / 2)")
        ),
        "expected gates of groups": fitted(
            rows, cw.VI(n_init=2), f"y ~ `{X}`", groups="id", weights=cw.Gated(f"`{G}`")
        ),
        "sticks": fitted(
            rows, cw.VI(n_init=2), f"y ~ `{X}`", n_components=3, covariates=f"`{X}`",
            weights=cw.LogitStickBreaking(f"`{G}`"),
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    # Its sandbox needs a user that is not root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=program, args=arguments)
        yield found
        found.close()


MODELS = ("em", "vi", "gibbs", "gates", "expected gates of groups", "sticks")


@pytest.fixture(scope="module", params=MODELS)
def opened(request, browser, fits, rows, tmp_path_factory):
    """A fit, its report in a browser, and what went wrong there."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    fit = fits[request.param]
    write_report(fit, path, rows)
    context = browser.new_context(viewport={"width": 390, "height": 800})
    tab, wrong = context.new_page(), []
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: wrong.append("a dialog") or dialog.dismiss())
    tab.on("request", lambda one: wrong.append(one.url) if one.url.startswith("http") else None)
    tab.goto(path.as_uri())
    yield fit, tab, wrong
    context.close()


def entered(tab, row, levels=LEVELS):
    """Enter a row's values, by the labels of the fields, and read what the page computes."""
    fields = tab.locator("#panel .field")
    for i in range(fields.count()):
        name = fields.nth(i).locator("label").text_content()
        value = row[name]
        if fields.nth(i).locator("select").count():
            fields.nth(i).locator("select").select_option(str(levels.index(value)))
        else:
            fields.nth(i).locator("input").fill(repr(float(value)))
    exact = "elements => elements.map(one => Number(one.dataset.exact))"
    clusters = tab.locator("#panel tbody td[data-exact]").evaluate_all(exact)
    return np.array(clusters), tab.locator("#panel tfoot td[data-exact]").evaluate_all(exact)


def test_the_panel_predicts_as_the_fit_does(opened, rows):
    fit, tab, _ = opened
    unsure = np.abs(fit.responsibilities(rows, use_response=False)[:, 0] - 0.5).argsort()
    for place in (*unsure[:3], 0):
        row = rows.iloc[[place]]
        clusters, (mean,) = entered(tab, row.iloc[0])
        expected = fit.responsibilities(row, use_response=False)[0]
        np.testing.assert_allclose(clusters, expected, atol=1e-6)
        np.testing.assert_allclose(mean, fit.predict(row)[0], rtol=1e-6, atol=1e-6)


def test_an_empty_field_is_asked_for(opened):
    _, tab, _ = opened
    tab.locator("#panel input").first.fill("")
    assert "Enter" in tab.locator("#panel-output").text_content()


def test_nothing_is_loaded_and_nothing_fails(opened):
    _, _, wrong = opened
    assert wrong == []


def test_names_from_the_data_are_text(opened):
    _, tab, _ = opened
    assert tab.locator("img[src='x']").count() == 0
    assert tab.locator("body b").count() == 0
    labels = tab.locator("#panel label").all_text_contents()
    assert X in labels
    assert "49" not in tab.title()


def test_tables_sort_and_filter(opened):
    _, tab, _ = opened
    column = tab.locator("#data-table thead th").nth(4)
    numbers = "cells => cells.map(one => one.dataset.value).filter(Boolean).map(Number)"
    for order in ("ascending", "descending"):
        column.locator("button").click()
        assert column.get_attribute("aria-sort") == order
        values = tab.locator("#data-table tbody td:nth-child(5)").evaluate_all(numbers)
        assert values == sorted(values, reverse=order == "descending")
        assert len(values) >= 2


def test_the_page_is_accessible(opened):
    from axe_playwright_python.sync_playwright import Axe

    _, tab, _ = opened
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        found = Axe().run(tab).response["violations"]
        serious = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], [node["html"] for v in found for node in v["nodes"]]


def test_a_phone_does_not_scroll_sideways(opened):
    _, tab, _ = opened
    width = tab.evaluate("document.documentElement.scrollWidth")
    assert width <= tab.viewport_size["width"]


def test_without_rows_there_is_a_page_still(fits):
    text = page(fits["em"])
    assert 'id="data-table"' not in text
    assert 'id="panel"' in text


def test_a_file_that_cannot_be_written_is_named(fits, tmp_path: Path):
    with pytest.raises(cw.FileError, match="missing"):
        write_report(fits["em"], tmp_path / "missing" / "report.html")
