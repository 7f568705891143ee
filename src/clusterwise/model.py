"""The model: what a user says, checked, and the way from data to a fit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterwise.assembly.assemble import Assembled, assemble
from clusterwise.assembly.build import Specification
from clusterwise.assembly.sharing import Shared
from clusterwise.assembly.specify import Prior, check_prior, specify
from clusterwise.core.errors import OptionError
from clusterwise.core.random import RandomState, as_generator
from clusterwise.core.runtime import double_precision
from clusterwise.covariates.density import AbstractDensity
from clusterwise.engines.checkpoint import Checkpoint
from clusterwise.engines.engine import AbstractEngine
from clusterwise.engines.problem import Outcome, Problem
from clusterwise.engines.registry import resolve_engine
from clusterwise.engines.start import Start
from clusterwise.frames.table import open_table
from clusterwise.inference.progress import Progress, progress_reporter
from clusterwise.regression.structure import AbstractCoefficients, resolve_coefficients
from clusterwise.weights.specification import AbstractWeights, resolve_weights

if TYPE_CHECKING:
    import pandas as pd

    from clusterwise.fit import Fit
    from clusterwise.record import FitRecord


@dataclass(frozen=True)
class Model:
    """A mixture of regressions.

    For a row with latent cluster z, p(z) p(x | z) p(y | x, z): mixing weights, a density of the
    covariates (optional), and a regression of the response in each cluster (optional).

    Parameters
    ----------
    formula
        "y ~ x1 + x2", a list of formulas for several responses that are independent given the
        cluster, or None for a plain mixture.
    family
        "gaussian", "poisson", "bernoulli" or "binomial", or a configured one such as `Gaussian`,
        `Bernoulli`; a list with several responses.
    n_components
        Number of clusters, or the truncation of a Dirichlet or Pitman-Yor process.
    covariates
        Columns of p(x | z), as a formula's right side, numbers being jointly Gaussian and text
        categorical; or a list of `GaussianCovariates`, `StudentTCovariates`,
        `BernoulliCovariates`, `PoissonCovariates`, `CategoricalCovariates` and
        `FamilyCovariates`; None for the conditional model p(y | x).
    weights
        "dirichlet", "dirichlet_process", "pitman_yor", or `Dirichlet`, `DirichletProcess`,
        `PitmanYor`, `KnownWeights`; `Gated` or `LogitStickBreaking` for weights that depend on
        columns of the row, which are then given and not modelled.
    shared
        Terms with one coefficient for all clusters, as a formula's right side: "x2", or "1 + x2"
        with the intercept. Or a dictionary from a term to groups of components with one
        coefficient each, such as {"x2": [[0, 1], [2]]}, or to "all"; then components keep the
        numbers that the groups give them.
    offset
        Column, or expression of columns such as "log(hours)", that is added to the linear
        predictor of responses with a link.
    trials
        Column with the number of trials of a binomial response.
    groups
        Column whose rows of one value share one cluster, such as repeated measurements of a
        person; of text, whole numbers or categories. `Fit.bic` counts groups then, and the rows
        are held in memory.
    coefficients
        Prior of the coefficients that clusters do not share: "independent"; "hierarchical", pooled
        over clusters by a normal distribution whose mean and standard deviation are learned;
        "ridge", shrunk to zero by a scale of each cluster; "horseshoe", sparse in each cluster; or
        `Hierarchical`, `Ridge`, `Horseshoe`.
    sample_weight
        Column, or expression of columns, with a weight of each row; zero leaves a row out.
    prior
        "default": weakly informative and moving with the units; coefficients are centred at the
        regression of all rows and worth a hundredth of a row.
        "flat": maximum likelihood. Or a dictionary from a response's name, or "covariates", to a
        conjugate prior on the data's own scale; the parts it does not name have the default.
        "covariates" is the prior of Gaussian densities; others say theirs in their own arguments.
        For `NUTS`, any NumPyro distributions, again by name: {"coefficients": ..., "sigma": ...}
        of a response, {"means": ..., "covariance" or "sigma": ...} of covariates.

    Raises
    ------
    OptionError, FormulaError
        Where an argument cannot be taken; the message says which and what to do.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=200)
    >>> y = np.where(np.arange(200) % 2, 3 * x, -x) + 0.1 * rng.normal(size=200)
    >>> fit = cw.Model("y ~ x", n_components=2).fit({"x": x, "y": y}, random_state=0)
    >>> bool(abs(fit.coefficients["x"].max() - 3) < 0.1)
    True
    """

    formula: str | Sequence[str] | None = None
    family: Any = "gaussian"
    n_components: int = 2
    covariates: str | Sequence[AbstractDensity] | None = None
    weights: str | AbstractWeights = "dirichlet"
    shared: Shared = None
    coefficients: str | AbstractCoefficients = "independent"
    groups: str | None = None
    offset: str | None = None
    trials: str | None = None
    sample_weight: str | None = None
    prior: Prior = "default"

    def __post_init__(self) -> None:
        _check_components(self.n_components)
        resolve_weights(self.weights, self.n_components)
        resolve_coefficients(self.coefficients)
        check_prior(self.prior)

    def fit(
        self,
        data: Any,
        engine: str | AbstractEngine = "vi",
        random_state: RandomState = None,
        progress: bool | Callable[[str, int, int], None] = False,
        checkpoint: str | PathLike[str] | None = None,
    ) -> Fit:
        """Fit to data.

        Parameters
        ----------
        data
            pandas, polars or Arrow frame, a dictionary of columns, a two-dimensional array
            (columns x0, x1, ...), or the path of a CSV, Parquet or Arrow file, which may be
            larger than memory. Missing values (NaN, None, nulls, empty cells) of covariates that
            are modelled, and of responses, are integrated out; others are errors.
        engine
            "em", "vi", "svi", "memoized" or "gibbs", or a configured one: `EM`, `VI`, `SVI`,
            `MemoizedVI`, `Gibbs`.
        random_state
            Seed or generator; the same seed gives the same answer.
        progress
            Whether to show progress on standard error, or a function of (what, done, total).
        checkpoint
            Folder in which a sampling engine keeps its draws about every second. The same call
            after a run that was cut off, at whatever moment, goes on from there and ends with the
            draws of an unbroken run.

        Returns
        -------
        Fit

        Raises
        ------
        DataError, FormulaError, OptionError, FileError
            Where the data or an option cannot be taken.
        """
        from clusterwise.fit import Fit

        chosen = resolve_engine(engine)
        record, *_ = infer(self, data, chosen, random_state, progress, checkpoint)
        fit = Fit(self, record)
        fit.warn_if_unsettled()
        return fit

    def simulate(
        self,
        n: int | None,
        params: Fit | Mapping[str, Any],
        random_state: RandomState = None,
        *,
        data: Any = None,
    ) -> pd.DataFrame:
        """Simulate rows by the generative story: the cluster, then x, then y.

        Parameters
        ----------
        n
            Number of rows; None for as many as `data` has.
        params
            A fit, for its estimates; or a dictionary on the data's own scale with "weights"
            (k,), "coefficients" (k, p), "sigma" (k,) and, where covariates are modelled, "means"
            (k, d) and "covariances" (k, d, d), "levels" {column: {level: (k,)}}, and "profiles"
            {column: {parameter: (k,)}} as `Fit.profiles` names them. With several responses,
            coefficients and sigma are dictionaries by response. Weights that depend on
            covariates have "gates" in the place of "weights": (k, p), or by stick-breaking
            (k - 1, p) of the sticks in order.
        random_state
            Seed or generator; the same seed gives the same rows.
        data
            Columns that the model needs and no density of covariates gives. Its rows are
            used as they are if there are `n` of them, else drawn with replacement.

        Returns
        -------
        pandas.DataFrame
            Covariates, responses, and the cluster as "component".

        Raises
        ------
        DataError, OptionError
            Where parameters do not fit the model, or a column is missing.

        Examples
        --------
        >>> import clusterwise as cw
        >>> model = cw.Model("y ~ x", n_components=2, covariates="x")
        >>> truth = {
        ...     "weights": [0.5, 0.5],
        ...     "coefficients": [[0, 3], [0, -1]],
        ...     "sigma": [0.1, 0.1],
        ...     "means": [[-1], [1]],
        ...     "covariances": [[[0.1]], [[0.1]]],
        ... }
        >>> list(model.simulate(100, truth, random_state=0))
        ['x', 'y', 'component']
        """
        from clusterwise.fit import Fit
        from clusterwise.inference.simulate import simulate
        from clusterwise.inference.truth import read_truth

        if isinstance(params, Fit):
            if params.model.formula != self.formula:
                raise OptionError(
                    f"params is a fit of {params.model.formula!r}, not of {self.formula!r}; use "
                    "its own simulate method."
                )
            return params.simulate(n, random_state, data=data)
        spec = self.specification(open_table(data).names if data is not None else ())
        truth = read_truth(spec, params)
        rng = as_generator(random_state)
        return simulate(
            spec.responses, truth, n, rng, data, groups=self.groups, gating=spec.weights.gating
        )

    def numpyro(self, data: Any) -> Callable[[], None]:
        """The model over these data as a NumPyro program, on the data's own scale.

        Parameters
        ----------
        data
            As for `fit`; its rows are held in memory.

        Returns
        -------
        callable
            A function without arguments for NumPyro's MCMC, SVI and Predictive, of any
            precision. Its sites are "weights" (a process also has "concentration" and "sticks"),
            "coefficients" (component, term), "sigma", and where covariates are modelled "means"
            and "covariance" (or "variances"), with the model's priors; several blocks of
            covariates are numbered. What is known has no site. The rows are the site "obs",
            (x, y) or y, with the clusters summed out.

        Raises
        ------
        OptionError
            For several responses, prior="flat", missing values, or weights that depend on
            covariates.

        Examples
        --------
        >>> import numpy as np, clusterwise as cw
        >>> from numpyro.infer import MCMC, NUTS
        >>> x = np.random.default_rng(0).normal(size=50)
        >>> program = cw.Model("y ~ x").numpyro({"x": x, "y": abs(x)})
        >>> mcmc = MCMC(NUTS(program), num_warmup=500, num_samples=500)
        """
        from clusterwise.interop.program import make_program

        table = open_table(data)
        spec = self.specification(table.names)
        assembled = double_precision(assemble)(spec, table, np.random.default_rng(0))
        return make_program(assembled)

    def specification(self, names: Sequence[str] = ()) -> Specification:
        """Resolve every argument, given the data's column names, which "." in a formula is."""
        return specify(
            self.formula,
            self.family,
            self.n_components,
            self.covariates,
            self.weights,
            self.prior,
            self.sample_weight,
            offset=self.offset,
            trials=self.trials,
            shared=self.shared,
            groups=self.groups,
            coefficients=self.coefficients,
            names=names,
        )


def infer(
    model: Model,
    data: Any,
    engine: AbstractEngine,
    random_state: RandomState,
    progress: bool | Progress = False,
    checkpoint: str | PathLike[str] | None = None,
    starts: Callable[[Problem], Iterable[Start]] | None = None,
) -> tuple[FitRecord, Problem, Outcome]:
    """Run an engine on data.

    Parameters
    ----------
    model
        What to fit.
    engine
        A configured one.
    data, random_state, progress, checkpoint
        As for `Model.fit`.
    starts
        Further starts, as memberships of the rows of the problem's sample, read when the
        engine's own have run; their recipes are named in `Fit.restarts`.

    Returns
    -------
    FitRecord, Problem, Outcome
        What is kept of the fit, what the engine was given, and what it found.
    """
    from clusterwise.record import make_record

    started = time.perf_counter()
    table = open_table(data)
    spec = model.specification(table.names)
    engine.check(not spec.flat, spec.free, spec.learned)
    rng = as_generator(random_state)
    kept = _open_checkpoint(checkpoint, engine, rng, random_state is not None)
    with progress_reporter(progress) as report:
        assembled, outcome = _run(model, spec, table, engine, rng, report, kept, starts)
    record = make_record(engine.name, assembled, outcome, time.perf_counter() - started)
    return record, assembled.problem, outcome


@double_precision
def _run(
    model: Model,
    spec: Specification,
    table: Any,
    engine: AbstractEngine,
    rng: np.random.Generator,
    progress: Progress,
    checkpoint: Checkpoint | None,
    starts: Callable[[Problem], Iterable[Start]] | None,
) -> tuple[Assembled, Outcome]:
    assembled = assemble(spec, table, rng)
    if checkpoint is not None:
        from clusterwise.io import model_document

        said = json.dumps(model_document(model), sort_keys=True)
        checkpoint.identify(said, repr(engine), assembled.problem.source.digest())
    problem = assembled.problem._replace(checkpoint=checkpoint)
    if starts is not None:
        problem = problem._replace(starts=starts(problem))
    return assembled._replace(problem=problem), engine.run(problem, rng, progress)


def _open_checkpoint(
    folder: str | PathLike[str] | None,
    engine: AbstractEngine,
    rng: np.random.Generator,
    seeded: bool,
) -> Checkpoint | None:
    if folder is None:
        return None
    if not engine.resumable:
        raise OptionError(
            f"engine={engine.name!r} keeps no checkpoint; leave checkpoint out, or use a sampling "
            "engine such as 'gibbs'."
        )
    checkpoint = Checkpoint(folder)
    checkpoint.seed(rng, seeded)
    return checkpoint


def _check_components(n_components: Any) -> None:
    whole = isinstance(n_components, (int, np.integer)) and not isinstance(n_components, bool)
    if not whole or n_components < 1:
        raise OptionError(f"n_components={n_components!r} must be a whole number, at least 1.")
