"""`select`: fit all candidates, score them, and say which to take."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object

from clusterwise.core.errors import OptionError
from clusterwise.core.random import RandomState, as_generator
from clusterwise.core.rows import BLOCK_ROWS
from clusterwise.engines.checkpoint import Checkpoint
from clusterwise.engines.engine import AbstractEngine
from clusterwise.fit import Fit
from clusterwise.frames.table import open_table
from clusterwise.inference.progress import progress_reporter
from clusterwise.model import Model
from clusterwise.selection.candidates import Chain, chains
from clusterwise.selection.criteria import (
    CRITERIA,
    LEVEL,
    Criterion,
    RowScores,
    draws_scores,
    evidence,
    plain_criteria,
    resolve_criteria,
)
from clusterwise.selection.folds import group_column, held_out, make_folds, read_all
from clusterwise.selection.jobs import ALL, Job, Runner
from clusterwise.selection.ratio import likelihood_ratio_test
from clusterwise.selection.selection import Selection
from clusterwise.selection.table import Candidate


class _Scored(NamedTuple):
    """What is kept of one fit."""

    fit: Fit
    values: dict[str, float]
    rows: dict[str, RowScores]
    pareto: float


def select(
    model: Model,
    data: Any,
    n_components: int | Sequence[int] = range(1, 7),
    criterion: str | Sequence[str] = "bic",
    *,
    engine: str | AbstractEngine | None = None,
    covariance_type: str | Sequence[str] | None = None,
    family: Any = None,
    covariates: Any = None,
    n_folds: int = 5,
    n_replicates: int = 99,
    random_state: RandomState = None,
    path: str | PathLike[str] | None = None,
    progress: bool | Callable[[str, int, int], None] = False,
) -> Selection:
    """Fit candidates, compare them, and recommend one.

    A fit of more clusters starts from that of fewer, with the clusters split that explain their
    rows worst, besides ordinary starts. Candidates are fitted on all cores.

    Parameters
    ----------
    model
        What the candidates have in common.
    data
        As for `Model.fit`; "cv" holds the rows in memory.
    n_components
        Numbers of clusters to try.
    criterion
        What decides, or several of which the first decides:
        "bic", "icl", "aic": of the fit as it is, smaller is better;
        "cv": log score of rows held out by `n_folds`-fold cross-validation, of whole groups where
        the model has groups; larger is better;
        "loo": PSIS leave-one-out log score of sampled fits; larger is better;
        "elbo": evidence lower bound of variational fits, for all equal modes; larger is better;
        "lrt": `likelihood_ratio_test` of each number of clusters against the next, until one is
        not rejected at the level of 0.05, which is taken; of candidates that differ in nothing
        else.
        Those that cost nothing more are reported too.
    engine
        As for `Model.fit`. By default what the criteria need: EM with few starts of its own, "vi"
        for "elbo", "gibbs" for "loo".
    covariance_type
        Of the Gaussian covariates: one or several of "full", "diag", "spherical", "tied".
    family, covariates
        Several of what `Model` takes. Candidates that differ in covariates are compared by
        "cv", by p(y | x), since densities of different columns are not comparable.
    n_folds
        Folds of "cv".
    n_replicates
        Data sets that each test of "lrt" simulates.
    random_state
        Seed or generator; the same seed gives the same answer, however many cores there are.
    path
        Folder in which every finished fit is kept. The same call after one that was cut off, or
        one with more numbers of clusters, goes on from there; tests are made anew.
    progress
        As for `Model.fit`.

    Returns
    -------
    Selection

    Raises
    ------
    OptionError
        Where criteria, engine and candidates do not go together.
    DataError, FormulaError
        Where a candidate cannot be fitted; the message names it.
    FileError
        Where `path` belongs to other data, another model or other settings.

    References
    ----------
    Schwarz (1978), Annals of Statistics 6; McLachlan (1987), Applied Statistics 36; Biernacki,
    Celeux and Govaert (2000), IEEE PAMI 22; Smyth (2000), Statistics and Computing 10; Vehtari,
    Gelman and Gabry (2017), Statistics and Computing 27.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-1, 1, 200)
    >>> y = np.where(rng.random(200) < 0.4, 3 * x, 1 - x) + 0.2 * rng.normal(size=200)
    >>> found = cw.select(cw.Model("y ~ x"), {"x": x, "y": y}, range(1, 4), random_state=0)
    >>> found.best.n_components
    2
    """
    asked, chosen = resolve_criteria(criterion, engine)
    every = chains(
        model,
        n_components,
        covariance_type=covariance_type,
        family=family,
        covariates=covariates,
    )
    conditional = _check_comparable(every, asked[0])
    crossed = any(one.name == "cv" for one in asked)
    rng = as_generator(random_state)
    folder = None if path is None else Path(path)
    if folder is not None:
        kept = Checkpoint(folder)
        kept.seed(rng, random_state is not None)
        kept.identify(repr(chosen), str(n_folds if crossed else 0), fingerprint(data))
    seed = int(rng.integers(2**63))
    with progress_reporter(progress) as report:
        runner = Runner(chosen, frugal=engine is None, seed=seed, folder=folder, report=report)
        jobs, parts = _jobs(every, data, runner, model.groups, n_folds if crossed else 0)
        loo = any(one.name == "loo" for one in asked)

        def finish(job: Job, fit: Fit) -> _Scored:
            if job.part != ALL:
                held = RowScores(*held_out(fit, parts[job.part], conditional))
                return _Scored(fit, {}, {"cv": held}, np.nan)
            return _of_all_rows(fit, asked, loo)

        tested = {}
        if any(one.test for one in asked):
            tested = _p_values(every, data, chosen, n_replicates, runner.generator("lrt"))
        scored = dict(
            zip([(j.chain, j.k, j.part) for j in jobs], runner.run(jobs, finish), strict=True)
        )
    found = []
    for chain in every:
        for k in chain.n_components:
            whole = scored[chain, k, ALL]
            rows = dict(whole.rows)
            if crossed:
                pieces = [scored[chain, k, part].rows["cv"] for part in parts]
                rows["cv"] = RowScores(*map(np.concatenate, zip(*pieces, strict=True)))
            values = {**whole.values, "lrt": tested.get(k, np.nan)}
            found.append(Candidate(chain, k, whole.fit, values, rows, whole.pareto))
    return Selection(found, asked)


def _of_all_rows(fit: Fit, asked: list[Criterion], loo: bool) -> _Scored:
    values = plain_criteria(fit)
    if any(one.name == "elbo" for one in asked):
        values["elbo"] = evidence(fit)
    if not loo:
        return _Scored(fit, values, {}, np.nan)
    rows, pareto = draws_scores(fit)
    return _Scored(fit, values, {"loo": rows}, pareto)


def _p_values(
    every: list[Chain],
    data: Any,
    engine: AbstractEngine,
    n_replicates: int,
    rng: np.random.Generator,
) -> dict[int, float]:
    """Of each number of clusters against the next, until one is not rejected."""
    if len(every) > 1:
        raise OptionError(
            "criterion='lrt' tests numbers of clusters of one model, since others are not nested; "
            "give one covariance_type, family and covariates, or choose another criterion."
        )
    found: dict[int, float] = {}
    numbers = every[0].n_components
    for few, many in pairwise(numbers):
        test = likelihood_ratio_test(
            every[0].candidate(few),
            data,
            (few, many),
            n_replicates,
            engine=engine,
            random_state=rng,
        )
        found[few] = test.p_value
        if test.p_value > LEVEL:
            break
    return found


def _jobs(
    every: list[Chain], data: Any, runner: Runner, groups: str | None, n_folds: int
) -> tuple[list[Job], dict[str, pd.DataFrame]]:
    """All fits to make, and the held-out rows of each part."""
    fitted: dict[str, Any] = {ALL: data}
    parts: dict[str, pd.DataFrame] = {}
    if n_folds:
        frame = read_all(data)
        codes = group_column(frame, groups)
        fold = make_folds(len(frame), n_folds, runner.generator("folds"), codes)
        for i in range(n_folds):
            fitted[f"fold{i}"] = frame.iloc[np.flatnonzero(fold != i)]
            parts[f"fold{i}"] = frame.iloc[np.flatnonzero(fold == i)]
    jobs = [
        Job(chain, k, part, rows)
        for chain in every
        for part, rows in fitted.items()
        for k in chain.n_components
    ]
    return jobs, parts


def _check_comparable(every: list[Chain], deciding: Criterion) -> bool:
    """Whether candidates have to be compared by p(y | x), and refuse where they cannot be."""
    modelled = {repr(_columns(chain.model.covariates)) for chain in every}
    if len(modelled) == 1:
        return False
    if deciding.name != "cv":
        raise OptionError(
            f"candidates with different covariates have densities of different columns, which "
            f"{deciding.title} cannot compare; use criterion='cv', which then scores p(y | x)."
        )
    formula = every[0].model.formula
    if every[0].model.groups is not None:
        raise OptionError(
            "candidates with different covariates are compared by p(y | x) of each row, which "
            "groups of rows do not have; compare candidates with the same covariates."
        )
    if formula is None or not (isinstance(formula, str) or len(formula) == 1):
        raise OptionError(
            "candidates with different covariates are compared by p(y | x) of one response; give "
            "a formula with one, or compare candidates with the same covariates."
        )
    return True


def _columns(covariates: Any) -> Any:
    """What is modelled, whatever its form."""
    if covariates is None or isinstance(covariates, str):
        return covariates
    return " + ".join(sorted(one.formula for one in covariates))


def fingerprint(data: Any) -> str:
    """A number of a table's columns and values.

    Parameters
    ----------
    data
        As for `Model.fit`.
    """
    table = open_table(data)
    found = hashlib.sha256(repr(table.names).encode())
    for frame in table.batches(table.names, BLOCK_ROWS):
        hashes = cast(Any, hash_pandas_object)(frame, index=False)
        found.update(hashes.to_numpy().tobytes())
    return found.hexdigest()


__all__ = ["CRITERIA", "Selection", "fingerprint", "select"]
