"""Fits of all candidates, two or more at a time, each from the one with fewer clusters."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clusterwise.core.errors import ClusterwiseError
from clusterwise.core.runtime import n_cores
from clusterwise.engines.engine import AbstractEngine
from clusterwise.engines.problem import Problem
from clusterwise.engines.start import Start
from clusterwise.fit import Fit
from clusterwise.inference.progress import Progress
from clusterwise.io import load, model_document
from clusterwise.model import Model, infer
from clusterwise.selection.candidates import Chain
from clusterwise.selection.criteria import plain_criteria
from clusterwise.selection.splitting import Later, own_starts, splits

ALL = "all"
LINES = "candidates.jsonl"


@dataclass(frozen=True, eq=False)
class Job:
    """One fit: a chain's model with `k` clusters, to the rows of a `part`.

    `rows` are those that are fitted to, `part` says which they are.
    """

    chain: Chain
    k: int
    part: str
    rows: Any

    @property
    def model(self) -> Model:
        """What is fitted."""
        return self.chain.candidate(self.k)

    @property
    def key(self) -> str:
        """What tells it from all others: also the numbers of clusters that lead to it."""
        said = json.dumps(model_document(self.chain.candidate(1)), sort_keys=True)
        before = [k for k in self.chain.n_components if k <= self.k]
        return f"{said} {before} {self.part}"

    @property
    def title(self) -> str:
        """What it is called in messages."""
        name = self.chain.name(self.k)
        return name if self.part == ALL else f"{name}, without {self.part}"

    @property
    def folder(self) -> str:
        """Name of the folder that keeps its fit."""
        return f"k{self.k}-{self.part}-{_digest(self.key).hex()[:12]}"


class Runner:
    """Runs jobs in order on all cores.

    A job compiles its programs and makes its ordinary starts while the one with fewer clusters is
    still running, and waits for it only then.

    Parameters
    ----------
    engine
        A configured engine.
    frugal
        Whether the engine makes few starts, so that jobs bring ordinary ones besides the splits.
    seed
        Every job's generator follows from it and the job's key.
    folder
        Where fits are kept and found again; None for nowhere.
    report
        Takes what is done, how much, and out of how much.
    """

    def __init__(
        self,
        engine: AbstractEngine,
        *,
        frugal: bool,
        seed: int,
        folder: Path | None,
        report: Progress,
    ) -> None:
        self._engine = engine
        self._frugal = frugal
        self._seed = seed
        self._folder = folder
        self._report = report
        self._done = 0
        self._lock = threading.Lock()

    def run(self, jobs: list[Job], finish: Callable[[Job, Fit], Any]) -> list[Any]:
        """What `finish` makes of each job's fit, in order.

        Parameters
        ----------
        jobs
            Those of one chain and part stand together, the fewest clusters first.
        finish
            What is kept of a fit, in the job's own thread.
        """
        fits: list[Future[Fit]] = []
        with ThreadPoolExecutor(n_cores(), thread_name_prefix="clusterwise-select") as pool:
            kept: list[Future[Any]] = []
            for i, job in enumerate(jobs):
                before = jobs[i - 1] if i else None
                linked = (
                    before is not None and before.chain is job.chain and before.part == job.part
                )
                fits.append(Future())
                smaller = fits[i - 1] if linked else None
                kept.append(pool.submit(self._one, job, smaller, fits[i], len(jobs), finish))
            try:
                return [one.result() for one in kept]
            except BaseException:
                # Those that have not begun would be in vain.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def generator(self, key: str) -> np.random.Generator:
        """A generator of its own for what goes by this key."""
        return np.random.default_rng(int.from_bytes(_digest(f"{self._seed} {key}")[:8], "little"))

    def _one(
        self,
        job: Job,
        smaller: Future[Fit] | None,
        own: Future[Fit],
        total: int,
        finish: Callable[[Job, Fit], Any],
    ) -> Any:
        try:
            fit = self._fit(job, smaller)
        except BaseException as error:
            own.set_exception(error)
            raise
        own.set_result(fit)
        found = finish(job, fit)
        self._done += 1
        self._report("candidates", self._done, total)
        return found

    def _fit(self, job: Job, smaller: Future[Fit] | None) -> Fit:
        place = None if self._folder is None else self._folder / job.folder
        if place is not None and place.exists():
            return load(place)
        rng = self.generator(job.key)
        own, split = rng.spawn(2)

        def make(problem: Problem) -> list[Start]:
            found = own_starts(problem, own) if self._frugal else []
            if smaller is not None:
                found += splits(problem, smaller.result().record.scored(), split)
            return found

        try:
            record, *_ = infer(
                job.model,
                job.rows,
                self._engine,
                rng,
                starts=lambda problem: Later(lambda: make(problem)),
            )
        except ClusterwiseError as error:
            if smaller is not None and smaller.done() and smaller.exception() is error:
                raise
            raise type(error)(f"{job.title}: {error}") from error
        fit = Fit(job.model, record)
        if place is not None:
            fit.save(place)
            self._note(place.parent, job, fit)
        return fit

    def _note(self, folder: Path, job: Job, fit: Fit) -> None:
        """Add a line for programs and people that watch the folder."""
        line = {
            "folder": job.folder,
            "candidate": job.chain.name(job.k),
            "part": job.part,
            "n_components": job.k,
            **job.chain.labels,
            "log_likelihood": fit.log_likelihood,
            "n_parameters": fit.n_parameters,
            **plain_criteria(fit),
            "converged": fit.converged,
            "seconds": fit.seconds,
        }
        with self._lock, (folder / LINES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
