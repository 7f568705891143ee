"""The command line: what it writes, what it prints, and how it says no."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import clusterwise as cw
from clusterwise import output
from clusterwise.cli.app import app

KEYS = {
    "schema": int,
    "version": str,
    "formula": str,
    "family": str,
    "covariates": str,
    "weights": str,
    "prior": str,
    "engine": str,
    "seed": int,
    "n_rows": int,
    "n_components": int,
    "converged": bool,
    "n_iter": int,
    "log_likelihood": float,
    "n_parameters": int,
    "bic": float,
    "icl": float,
    "seconds": float,
    "notes": list,
    "not_identified": list,
    "restarts": list,
    "components": list,
}


def run(*arguments):
    # Reports take longer than these fits, and have tests of their own.
    without = ["--no-report"] if arguments[0] == "fit" and "--report" not in arguments else []
    return CliRunner().invoke(app, [*(str(argument) for argument in arguments), *without])


def fit_once(data, *options):
    """Fit the model that is compiled already."""
    return run("fit", data, "y ~ x", "--covariates", "x", "--engine", "em", *options)


def read_json(path):
    """Read strictly: Python would take NaN, JSON does not."""

    def refuse(text):
        raise ValueError(f"{text} is not JSON")

    return json.loads(Path(path).read_text(), parse_constant=refuse)


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(1)
    n = 150
    z = rng.random(n) < 0.4
    x = np.where(z, 1.0, -1.0) + rng.normal(size=n)
    y = np.where(z, 2 + 3 * x, -x) + 0.3 * rng.normal(size=n)
    return pd.DataFrame({"x": x, "y": y, "g": np.where(rng.random(n) < 0.5, "a", "b")})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, frame):
    """A folder with data and the fit of it that most tests read."""
    place = tmp_path_factory.mktemp("cli")
    frame.to_csv(place / "data.csv", index=False)
    result = fit_once(place / "data.csv", "-k", 2, "--output", place / "fit")
    assert result.exit_code == 0, result.stderr
    (place / "printed.txt").write_text(result.stdout)
    return place


@pytest.fixture
def place(tmp_path, frame, monkeypatch):
    """An empty working folder with data to get wrong."""
    monkeypatch.chdir(tmp_path)
    frame.to_csv("data.csv", index=False)
    frame.to_parquet("data.parquet")
    return tmp_path


# -- fit ----------------------------------------------------------------------------------------


def test_fit_json_has_the_promised_keys(folder, frame):
    document = read_json(folder / "fit" / "fit.json")
    assert {key: type(document[key]) for key in KEYS} == KEYS
    assert document["schema"] == 1
    assert (document["formula"], document["covariates"]) == ("y ~ x", "x")
    assert document["n_rows"] == len(frame)
    for optimum in document["restarts"]:
        assert {"log_likelihood", "reached", "degenerate", "reason", "chosen"} <= set(optimum)
    assert sum(optimum["chosen"] for optimum in document["restarts"]) == 1
    weights = [one["weight"] for one in document["components"]]
    assert weights == sorted(weights, reverse=True)
    assert math.isclose(sum(weights), 1, rel_tol=1e-9)
    for one in document["components"]:
        assert set(one["coefficients"]) == {"Intercept", "x"}
        assert set(one["dispersion"]) == {"sigma"}
        assert set(one["covariates"]["mean"]) == {"x"}
        assert set(one["covariates"]["covariance"]["x"]) == {"x"}


def test_fit_json_is_the_fit_in_process(folder, frame):
    document = read_json(folder / "fit" / "fit.json")
    fit = cw.Model("y ~ x", covariates="x").fit(
        folder / "data.csv", engine="em", random_state=document["seed"]
    )
    assert document["log_likelihood"] == fit.log_likelihood
    assert document["bic"] == fit.bic
    found = [one["coefficients"]["x"] for one in document["components"]]
    assert found == list(fit.coefficients["x"])


def test_rows_are_the_responsibilities(folder):
    rows = pd.read_parquet(folder / "fit" / "rows.parquet")
    assert list(rows.columns) == ["row", "cluster", "p_0", "p_1"]
    fit = cw.load(folder / "fit" / "model")
    expected = fit.responsibilities(folder / "data.csv")
    np.testing.assert_allclose(rows[["p_0", "p_1"]], expected, rtol=0, atol=1e-14)
    assert list(rows["row"]) == list(range(len(expected)))
    assert list(rows["cluster"]) == list(expected.argmax(axis=1))


def test_rows_are_the_same_in_batches(folder, tmp_path, monkeypatch):
    fit = output.read_fit(folder / "fit")
    monkeypatch.setattr(output, "BLOCK_ROWS", 37)
    output.write_rows(fit, folder / "data.csv", tmp_path / "rows.parquet", lambda *_: None)
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "rows.parquet"),
        pd.read_parquet(folder / "fit" / "rows.parquet"),
        rtol=1e-12,
    )


def test_the_table_is_for_people_with_80_columns(folder):
    printed = (folder / "printed.txt").read_text()
    for words in ("component 0", "component 1", "Intercept", "sigma", "mean of x", "Wrote"):
        assert words in printed
    shown = [line for line in printed.splitlines() if not line.startswith("Wrote")]
    assert max(map(len, shown)) <= 80


def test_default_folder_and_quiet(place):
    result = fit_once("data.parquet", "--quiet", "--report")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert {p.name for p in Path("data-fit").iterdir()} == {
        "report.html",
        "fit.json",
        "rows.parquet",
        "model",
    }
    assert not list(place.glob(".clusterwise-*"))


@pytest.mark.long
def test_standard_deviations_where_there_are_draws(place):
    result = run("fit", "data.csv", "y ~ x", "-k", 2, "--output", "out")
    assert result.exit_code == 0
    assert "standard deviations" in result.stdout
    for one in read_json("out/fit.json")["components"]:
        assert 0 < one["weight_sd"] < 0.2
        assert set(one["coefficients_sd"]) == {"Intercept", "x"}


@pytest.mark.long
def test_several_responses_and_a_covariance(place, frame):
    frame.assign(v=frame["y"] + frame["x"] ** 2).to_csv("data.csv", index=False)
    result = run(
        "fit", "data.csv", "y ~ x; v ~ 1 + x + g", "-k", 2, "--covariates", "x",
        "--covariance", "diag", "--engine", "em", "--output", "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "v: g[T.b]" in result.stdout
    document = read_json("out/fit.json")
    assert document["formula"] == ["y ~ x", "v ~ 1 + x + g"]
    assert document["covariates"] == [
        {
            "kind": "GaussianCovariates",
            "formula": "x",
            "covariance_type": "diag",
            "covariance": None,
        }
    ]
    one = document["components"][0]
    assert set(one["coefficients"]) == {"y", "v"}
    assert set(one["coefficients"]["v"]) == {"Intercept", "x", "g[T.b]"}
    assert set(one["dispersion"]["y"]) == {"sigma"}


def test_a_plain_mixture(place):
    result = run(
        "fit", "data.csv", "none", "--covariates", "x + y", "--engine", "em", "--output", "out"
    )
    assert result.exit_code == 0, result.stderr
    document = read_json("out/fit.json")
    assert document["formula"] is None
    assert document["components"][0]["coefficients"] == {}
    result = run("predict", "out", "data.csv", "--output", "p.csv")
    assert result.exit_code == 0, result.stderr
    assert list(pd.read_csv("p.csv").columns) == ["row", "p_0", "p_1"]


def test_a_term_that_is_not_identified_is_named(place, frame):
    frame.assign(twice=2 * frame["x"]).to_csv("data.csv", index=False)
    result = run("fit", "data.csv", "y ~ x + twice", "--engine", "em", "--output", "out")
    assert result.exit_code == 0
    assert "'twice'" in result.stdout
    assert read_json("out/fit.json")["not_identified"] == [{"response": "y", "term": "twice"}]


def test_numbers_that_json_lacks_are_null():
    assert output.plain({"a": [np.nan, np.float64(np.inf), 1.0]}) == {"a": [None, None, 1.0]}


# -- what is there already ----------------------------------------------------------------------


def test_a_fit_is_replaced_by_a_fit(place):
    assert fit_once("data.csv", "--output", "out").exit_code == 0
    Path("out/plot.png").write_bytes(b"of the old fit")
    assert fit_once("data.csv", "--seed", 1, "--output", "out").exit_code == 0
    assert read_json("out/fit.json")["seed"] == 1
    assert not Path("out/plot.png").exists()


def test_a_fit_stays_when_the_next_one_fails(place, monkeypatch):
    assert fit_once("data.csv", "--output", "out").exit_code == 0
    before = snapshot(place)
    assert run("fit", "data.csv", "y ~ nothing", "--output", "out").exit_code == 2

    def full(*_):
        raise OSError(28, "No space left on device", "out")

    monkeypatch.setattr(output, "write_rows", full)
    result = fit_once("data.csv", "--output", "out")
    assert result.exit_code == 2
    assert "No space left" in result.stderr
    assert snapshot(place) == before


@pytest.mark.parametrize(
    "content",
    [
        {"notes.txt": "mine"},
        {"fit.json": '{"mine": 1}'},
        {"fit.json": "not JSON"},
        {"plot.png": "mine"},
        {"model/weights.bin": "mine"},
    ],
)
def test_a_folder_of_something_else_is_left_alone(place, content):
    for name, text in content.items():
        path = place / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    before = snapshot(place)
    result = run("fit", "data.csv", "y ~ x", "--output", "out")
    assert_refused(result, "'out'", "not a fit's")
    assert snapshot(place) == before


def test_a_file_is_no_folder(place):
    assert_refused(run("fit", "data.csv", "y ~ x", "--output", "data.parquet"), "not a folder")
    result = fit_once("data.csv", "--output", "data.parquet/out")
    assert_refused(result, "data.parquet")


# -- bad input ----------------------------------------------------------------------------------


def assert_refused(result, *words):
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in result.output


BAD_FITS = {
    "unknown column": (["y ~ z"], ["'z'"]),
    "near miss": (["yy ~ x"], ["'yy'", "'y'"]),
    "unfinished formula": (["y ~ x +"], ["y ~ x +"]),
    "code in the formula": (["y ~ __import__('os')"], ["__import__"]),
    "no response": (["x"], ["'x'", "response"]),
    "text as response": (["g ~ x"], ["'g'"]),
    "text in arithmetic of covariates": (["y ~ x", "--covariates", "log(g)"], ["'g'"]),
    "text in arithmetic": (["y ~ log(g)"], ["'g'"]),
    "nothing": ([""], ["formula"]),
    "no clusters": (["y ~ x", "-k", 0], ["n_components=0"]),
    "too many clusters": (["y ~ x", "-k", 151], ["n_components=151"]),
    "family": (["y ~ x", "--family", "weibull"], ["family='weibull'", "gaussian"]),
    "weights": (["y ~ x", "--weights", "even"], ["even", "dirichlet"]),
    "shared": (["y ~ x", "--shared", "z"], ["shared='z'"]),
    "groups": (["y ~ x", "--groups", "who"], ["who"]),
    "offset": (["y ~ x", "--offset", "x"], ["offset='x'"]),
    "trials": (["y ~ x", "--trials", "x"], ["trials='x'"]),
    "engine": (["y ~ x", "--engine", "hmc"], ["engine='hmc'", "'em'"]),
    "prior": (["y ~ x", "--prior", "strong"], ["prior='strong'", "'flat'"]),
    "prior of an engine": (["y ~ x", "--prior", "flat"], ["engine='vi'", "engine='em'"]),
    "covariance alone": (["y ~ x", "--covariance", "full"], ["--covariance", "--covariates"]),
    "covariance": (["y ~ x", "--covariates", "x", "--covariance", "round"], ["round", "full"]),
    "weight column": (["y ~ x", "--sample-weight", "w"], ["'w'"]),
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_bad_options_are_named(place, case):
    arguments, words = BAD_FITS[case]
    before = snapshot(place)
    assert_refused(run("fit", "data.csv", *arguments, "--output", "out"), *words)
    assert snapshot(place) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # A conditional model has no distribution of it.
        ({"x": np.nan}, ["'x'", "7"]),
        ({"x": np.inf}, ["'x'", "7"]),
        ({"x": "text"}, ["'x'"]),
    ],
)
def test_bad_values_are_named(place, frame, change, words):
    column, value = next(iter(change.items()))
    damaged = frame.astype({column: object})
    damaged.loc[7, column] = value
    damaged.to_csv("bad.csv", index=False)
    result = run("fit", "bad.csv", f"y ~ {column if value == 'text' else 'x'}")
    if value == "text":
        # Text makes a category of the column, with too many parameters for its rows.
        assert result.exit_code == 2
        return
    assert_refused(result, *words)
    assert not Path("bad-fit").exists()


def test_bad_rows_are_named(place, frame):
    frame.head(0).to_csv("none.csv", index=False)
    frame.head(5).to_csv("few.csv", index=False)
    frame.assign(y=2.0).to_csv("constant.csv", index=False)
    assert_refused(run("fit", "none.csv", "y ~ x"), "no rows")
    assert_refused(run("fit", "few.csv", "y ~ x"), "5 rows", "7 parameters")
    assert_refused(run("fit", "constant.csv", "y ~ x"), "'y'", "constant")


def test_bad_files_are_named(place):
    content = Path("data.parquet").read_bytes()
    Path("short.parquet").write_bytes(content[: len(content) // 2])
    Path("noise.parquet").write_bytes(b"noise" * 100)
    Path("empty.csv").write_text("")
    Path("data.xlsx").write_text("x")
    for name in ("short.parquet", "noise.parquet", "empty.csv", "data.xlsx", "missing.csv", "."):
        assert_refused(run("fit", name, "y ~ x", "--output", "out"), name)
        assert not Path("out").exists()


def test_bad_usage_has_status_2(place):
    for arguments in ([], ["y ~ x", "-k", "two"], ["y ~ x", "--seed", -1], ["y ~ x", "--no-such"]):
        result = run("fit", "data.csv", *arguments)
        assert result.exit_code == 2
        assert "Traceback" not in result.output


# -- predict ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predict_equals_the_fit_in_process(folder, tmp_path, suffix):
    path = tmp_path / f"p.{suffix}"
    result = run("predict", folder / "fit", folder / "data.csv", "--output", path)
    assert result.exit_code == 0, result.stderr
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    found = read(path)
    fit = cw.Model("y ~ x", covariates="x").fit(folder / "data.csv", engine="em", random_state=0)
    assert list(found.columns) == ["row", "mean", "p_0", "p_1"]
    np.testing.assert_allclose(found["mean"], fit.predict(folder / "data.csv"), rtol=1e-12)
    expected = fit.responsibilities(folder / "data.csv", use_response=False)
    np.testing.assert_allclose(found[["p_0", "p_1"]], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        (["--kind", "interval", "--level", 0.5], ["lower", "upper"]),
        (["--kind", "quantile", "--q", 0.25, "--q", 0.75], ["q_0.25", "q_0.75"]),
        (["--kind", "density"], ["density"]),
    ],
)
def test_kinds_of_prediction(folder, tmp_path, options, columns):
    path = tmp_path / "p.parquet"
    # model/ will do as well as the folder around it.
    model = folder / "fit" / "model"
    result = run("predict", model, folder / "data.csv", *options, "--output", path)
    assert result.exit_code == 0, result.stderr
    found = pd.read_parquet(path)
    assert list(found.columns) == ["row", *columns, "p_0", "p_1"]
    fit = cw.load(model)
    expected = {
        "interval": lambda: fit.predict(folder / "data.csv", "interval", level=0.5),
        "quantile": lambda: fit.predict(folder / "data.csv", "quantile", q=(0.25, 0.75)),
        "density": lambda: fit.predict(folder / "data.csv", "density")[:, None],
    }[options[1]]()
    np.testing.assert_allclose(found[columns], expected, rtol=1e-12)


def test_predict_shows_the_first_rows_and_needs_no_response(folder, tmp_path, frame):
    frame[["x"]].to_csv(tmp_path / "new.csv", index=False)
    result = run("predict", folder / "fit", tmp_path / "new.csv")
    assert result.exit_code == 0, result.stderr
    assert "mean" in result.stdout
    assert "--output" in result.stdout


def test_predict_refuses(folder, place, frame):
    fit = folder / "fit"
    frame.drop(columns="x").to_csv("lacks.csv", index=False)
    frame.assign(x=[np.inf, *frame["x"][1:]]).to_csv("gaps.csv", index=False)
    Path("there.csv").write_text("mine")
    assert_refused(run("predict", fit, "lacks.csv"), "'x'")
    assert_refused(run("predict", fit, "gaps.csv", "--output", "p.csv"), "'x'")
    assert_refused(run("predict", fit, "data.csv", "--output", "there.csv"), "there.csv", "--force")
    assert_refused(run("predict", fit, "data.csv", "--output", "p.txt"), "p.txt")
    wrong = ["--kind", "quantile", "--q", 1.5]
    assert_refused(run("predict", fit, "data.csv", *wrong), "q")
    assert_refused(run("predict", fit, "data.csv", "--response", "v"), "'v'", "'y'")
    assert Path("there.csv").read_text() == "mine"
    assert not Path("p.csv").exists()
    assert not list(place.glob(".clusterwise-*"))
    result = run("predict", fit, "data.csv", "--output", "there.csv", "--force")
    assert result.exit_code == 0
    assert len(pd.read_csv("there.csv")) == len(frame)


def test_predict_counts_rows_from_the_first_of_the_file(folder, place, frame, monkeypatch):
    monkeypatch.setattr(output, "BLOCK_ROWS", 20)
    x = frame["x"].copy()
    x[45] = np.inf
    frame.assign(x=x).to_csv("gaps.csv", index=False)
    assert_refused(run("predict", folder / "fit", "gaps.csv", "--output", "p.csv"), "'x'", "45")


def test_saved_models_that_cannot_be_read(folder, place):
    shutil.copytree(folder / "fit", "damaged")
    arrays = Path("damaged/model/arrays.npz")
    arrays.write_bytes(arrays.read_bytes()[:-100])
    assert_refused(run("predict", "damaged", "data.csv"), "damaged")

    shutil.copytree(folder / "fit", "garbage")
    Path("garbage/model/model.json").write_text("{")
    assert_refused(run("predict", "garbage", "data.csv"), "garbage", "damaged")

    shutil.copytree(folder / "fit", "newer")
    path = Path("newer/model/model.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    assert_refused(run("predict", "newer", "data.csv"), "newer", "99")

    assert_refused(run("predict", "nowhere", "data.csv"), "nowhere")
    assert_refused(run("predict", place, "data.csv"), "model.json")


# -- simulate and the rest ----------------------------------------------------------------------


def test_simulate_writes_what_the_fit_simulates(folder, place):
    result = run("simulate", folder / "fit", "-n", 50, "--seed", 3, "--output", "new.parquet")
    assert result.exit_code == 0, result.stderr
    expected = cw.load(folder / "fit" / "model").simulate(50, 3)
    pd.testing.assert_frame_equal(pd.read_parquet("new.parquet"), expected)
    again = run("simulate", folder / "fit", "-n", 50, "--output", "new.parquet")
    assert_refused(again, "new.parquet", "--force")
    wrong = run("simulate", folder / "fit", "-n", 0, "--output", "other.csv")
    assert_refused(wrong, "n=0")


def test_simulate_from_a_conditional_fit_needs_regressors(place):
    assert run("fit", "data.csv", "y ~ x", "--engine", "em", "--output", "out").exit_code == 0
    assert_refused(run("simulate", "out", "-n", 5, "--output", "new.csv"), "'x'", "data")
    result = run("simulate", "out", "--data", "data.csv", "--output", "new.csv")
    assert result.exit_code == 0, result.stderr
    pd.testing.assert_series_equal(pd.read_csv("new.csv")["x"], pd.read_csv("data.csv")["x"])


def test_interrupting_has_its_own_status(place, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cw.Model, "fit", interrupted)
    result = run("fit", "data.csv", "y ~ x", "--output", "out")
    assert result.exit_code == 130
    assert not Path("out").exists()


def test_an_unsettled_fit_is_said_in_one_line(place, monkeypatch):
    settled = cw.Model.fit

    def unsettled(model, data, **options):
        return settled(model, data, **{**options, "engine": cw.EM(max_iter=2)})

    monkeypatch.setattr(cw.Model, "fit", unsettled)
    result = fit_once("data.csv", "--output", "out")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert len(result.stderr.splitlines()) == 1
    assert "NOT converged" in result.stdout


@pytest.mark.long
def test_the_program_itself(place):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(place / "cache")}

    def call(*arguments):
        command = [sys.executable, "-m", "clusterwise", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    shown = call("--version")
    assert (shown.returncode, shown.stdout) == (0, f"clusterwise {cw.__version__}\n")
    refused = call("fit", "data.csv", "y ~ z")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert len(refused.stderr.splitlines()) == 1
    fitted = call("fit", "data.csv", "y ~ x", "--engine", "em")
    assert (fitted.returncode, fitted.stderr) == (0, "")
    assert list((place / "cache" / "clusterwise" / "jax").iterdir())


def test_select_compares_and_writes_and_goes_on(frame, tmp_path):
    data, place = tmp_path / "lines.csv", tmp_path / "out"
    frame.to_csv(data, index=False)
    options = ("y ~ x", "--covariates", "x", "-k", "1:2", "--output", place)
    done = run("select", data, *options)
    assert done.exit_code == 0, done.output
    assert "Take K = 2" in " ".join(done.output.split())
    document = read_json(place / "selection.json")
    assert (document["schema"], document["n_components"], document["best"]) == (1, 2, 1)
    assert [row["n_components"] for row in document["candidates"]] == [1, 2]
    best = document["candidates"][1]
    assert best["bic"] == pytest.approx(read_json(place / "best" / "fit.json")["bic"])
    assert best["bic"] == pytest.approx(cw.load(place / "best" / "model").bic)
    before = snapshot(place / "candidates")
    again = run("select", data, *options, "--quiet")
    assert (again.exit_code, again.output) == (0, "")
    assert snapshot(place / "candidates") == before
    assert read_json(place / "selection.json") == document
    refused = run("select", data, "x ~ y", "-k", "two", "--output", place)
    assert refused.exit_code == 2
    assert "'two' is not a range such as 1:8" in refused.output
    (place / "other.txt").write_text("mine")
    assert "is not a selection's folder" in run("select", data, *options).output


@pytest.mark.long
def test_reports_and_comparisons_are_made_of_folders(place):
    for k in (1, 2):
        assert fit_once("data.csv", "-k", k, "--output", f"k{k}").exit_code == 0
    result = run("report", "k2", "data.csv")
    assert result.exit_code == 0, result.output
    assert 'id="data-table"' in Path("k2/report.html").read_text()
    assert run("report", "k2", "--output", "bare.html").exit_code == 0
    result = run("compare", "k1", "k2")
    assert result.exit_code == 0
    bic = [read_json(f"k{k}/fit.json")["bic"] for k in (1, 2)]
    assert f"BIC is least for k2, by {bic[0] - bic[1]:.2f}" in " ".join(result.output.split())
    assert run("compare", "k1").exit_code == 2
    assert "no-such" in run("compare", "k1", "no-such").stderr
