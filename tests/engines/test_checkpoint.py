"""A sampling run that is killed goes on where it was, and ends as an unbroken one."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import clusterwise as cw
from clusterwise.engines import checkpoint as module

pytestmark = pytest.mark.long

SCRIPT = """
import sys, numpy as np, clusterwise as cw
from tests.engines.test_checkpoint import make_rows, MODEL, ENGINES
from clusterwise.engines import checkpoint
checkpoint._SECONDS_BETWEEN = 0.0
MODEL.fit(make_rows(), engine=ENGINES[sys.argv[2]], random_state=3, checkpoint=sys.argv[1],
          progress=lambda *step: print(*step, flush=True))
"""
MODEL = cw.Model("y ~ x", n_components=2)
ENGINES = {
    "gibbs": cw.Gibbs(num_warmup=150, num_samples=1850, num_chains=2, n_init=2),
    "nuts": cw.NUTS(num_warmup=120, num_samples=880, num_chains=2, n_init=2),
}


def make_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    return {"x": x, "y": np.where(np.arange(60) % 2, 3 * x, -x) + 0.3 * rng.normal(size=60)}


@pytest.fixture(autouse=True)
def every_block(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_BETWEEN", 0.0)


def assert_same_draws(fit, other):
    for name, values in other.posterior["posterior"].data_vars.items():
        np.testing.assert_array_equal(fit.posterior["posterior"][name], values)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "nuts" else ()) for n in ENGINES]
)
def test_killed_run_resumes_with_the_draws_of_an_unbroken_one(name, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", SCRIPT, str(folder), name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    blocks = (line for line in process.stdout if line.startswith("blocks"))
    for _ in range(9):
        next(blocks)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = len(list(folder.glob("group-*.npz")))
    assert begun > 0
    steps = []
    resumed = MODEL.fit(
        make_rows(),
        engine=ENGINES[name],
        checkpoint=folder,
        progress=lambda what, done, total: steps.append((what, done, total)),
    )
    blocks_made = sum(what.startswith("blocks") for what, _, _ in steps)
    assert blocks_made <= steps[-1][2] - 8
    assert_same_draws(resumed, MODEL.fit(make_rows(), engine=ENGINES[name], random_state=3))


def test_half_written_file_is_not_read(tmp_path):
    engine = cw.Gibbs(num_warmup=0, num_samples=300, num_chains=1, n_init=2)
    unbroken = MODEL.fit(make_rows(), engine=engine, random_state=3, checkpoint=tmp_path / "run")
    last = max((tmp_path / "run").glob("group-0-*.npz"))
    (last.parent / f".{last.name}").write_bytes(last.read_bytes()[:100])
    last.unlink()
    again = MODEL.fit(make_rows(), engine=engine, random_state=3, checkpoint=tmp_path / "run")
    assert_same_draws(again, unbroken)


@contextmanager
def room_for_files():
    """Gives a function that sets how many bytes a file of this process may have, then undoes it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_is_said_and_the_run_goes_on_from_what_was_kept(tmp_path):
    engine = cw.Gibbs(num_warmup=0, num_samples=700, num_chains=1, n_init=2)
    folder, blocks = tmp_path / "run", []

    def fill_after_three_blocks(what, done, total):
        if what.startswith("blocks") and done == 3:
            # Less than a block of draws: what is left when the disk is full is half a file.
            limit(1000)

    with (
        room_for_files() as limit,
        pytest.raises(cw.FileError, match=f"{re.escape(str(folder))}.*Make room.*goes on") as error,
    ):
        MODEL.fit(
            make_rows(),
            engine=engine,
            random_state=3,
            checkpoint=folder,
            progress=fill_after_three_blocks,
        )
    assert isinstance(error.value.__cause__, OSError)
    assert sorted(os.listdir(folder)) == [*(f"group-0-{i:08d}.npz" for i in (1, 2, 3)), "run.json"]
    again = MODEL.fit(
        make_rows(),
        engine=engine,
        random_state=3,
        checkpoint=folder,
        progress=lambda what, done, total: blocks.append(what.startswith("blocks")),
    )
    assert sum(blocks) == 4
    assert_same_draws(again, MODEL.fit(make_rows(), engine=engine, random_state=3))


def test_folder_that_cannot_be_written_is_named_before_anything_is_drawn(tmp_path):
    (tmp_path / "file").write_text("here", encoding="utf-8")
    folder, steps = tmp_path / "file" / "run", []
    with pytest.raises(cw.FileError, match=f"{re.escape(str(folder))}.*another folder"):
        MODEL.fit(
            make_rows(),
            engine="gibbs",
            checkpoint=folder,
            progress=lambda *step: steps.append(step),
        )
    assert not steps


def test_checkpoint_of_another_run_is_refused(tmp_path):
    engine = cw.Gibbs(num_warmup=0, num_samples=100, num_chains=1, n_init=2)
    folder = tmp_path / "run"
    MODEL.fit(make_rows(), engine=engine, random_state=3, checkpoint=folder)
    with pytest.raises(cw.FileError, match="another random_state"):
        MODEL.fit(make_rows(), engine=engine, random_state=4, checkpoint=folder)
    rows = make_rows()
    rows["y"][5] += 1e-9
    for model, data in ((MODEL, rows), (cw.Model("y ~ x", n_components=3), make_rows())):
        with pytest.raises(cw.FileError, match="other data, another model"):
            model.fit(data, engine=engine, random_state=3, checkpoint=folder)
    (folder / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(cw.FileError, match="damaged"):
        MODEL.fit(make_rows(), engine=engine, random_state=3, checkpoint=folder)


def test_engines_that_do_not_sample_refuse_one(tmp_path):
    with pytest.raises(cw.OptionError, match="keeps no checkpoint"):
        MODEL.fit(make_rows(), engine="em", checkpoint=tmp_path)
    assert not os.listdir(tmp_path)


def test_seed_of_a_run_without_one_is_kept(tmp_path):
    engine = cw.Gibbs(num_warmup=0, num_samples=200, num_chains=1, n_init=2)
    first = MODEL.fit(make_rows(), engine=engine, checkpoint=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["random_state"]
    assert_same_draws(MODEL.fit(make_rows(), engine=engine, checkpoint=tmp_path / "run"), first)
