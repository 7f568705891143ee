"""The demonstration finds what its data hold, and writes only over itself."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score
from typer.testing import CliRunner

from clusterwise.cli.app import app
from clusterwise.core.errors import FileError, OptionError
from clusterwise.data import NAMES, load
from clusterwise.demo import STORIES, run_demo
from clusterwise.output import read_fit

CO2 = next(story for story in STORIES if story.name == "co2")


def test_data_sets_are_complete():
    assert {name: load(name).shape for name in NAMES} == {"co2": (28, 3), "penguins": (333, 8)}
    assert not any(load(name).isna().any(axis=None) for name in NAMES)
    with pytest.raises(OptionError, match="'penguins'"):
        load("iris")


def test_a_story_is_written_and_written_over(tmp_path):
    output = tmp_path / "demo-output"
    for _ in range(2):
        lines = []
        run_demo(output, say=lines.append, stories=[CO2])
        names = {path.name for path in (output / "co2").iterdir()}
        assert names == {"report.html", "fit.json", "rows.parquet", "plot.png", "model"}
    assert any("CAN MEX USA" in line for line in lines)
    document = json.loads((output / "co2" / "fit.json").read_text())
    # The maximum that other programs find, to an optimiser's tolerance.
    assert abs(document["log_likelihood"] + 66.939768) < 1e-4
    assert max(map(len, lines[:-2])) <= 90


@pytest.mark.parametrize("name", ["notes.txt", "co2/notes.txt"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, name):
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(FileError, match="mine"):
        run_demo(tmp_path / "mine", say=lambda _: None)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path / "mine")])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_whole_demonstration(tmp_path):
    # As a user runs it: without the flags that make the compiler of `make test` quick.
    environment = {name: os.environ[name] for name in os.environ if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "clusterwise", "demo", "--output", tmp_path / "demo-output"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    folders = {story.name: tmp_path / "demo-output" / story.name for story in STORIES}
    for folder in folders.values():
        assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")

    document = json.loads((folders["penguins"] / "fit.json").read_text())
    assert abs(document["log_likelihood"] + 5016.5827) < 1e-4
    clusters = pd.read_parquet(folders["penguins"] / "rows.parquet")["cluster"]
    assert adjusted_rand_score(load("penguins")["species"], clusters) > 0.95
    assert "Adjusted Rand index 0.959" in result.stdout

    # With 20 intervals of 99%, fewer than 18 hits have a chance below 0.002.
    inside = int(result.stdout.split("The truth is inside ")[1].split()[0])
    assert inside >= 18

    fit = read_fit(folders["two-lines"])
    assert fit.n_rows == 100_000
    np.testing.assert_allclose(sorted(fit.coefficients["x"]), [-1, 3], atol=0.01)
    np.testing.assert_allclose(fit.dispersion["sigma"], 0.1, atol=0.002)
