"""The model: what a user says, checked, and the way from data to a fit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterwise.assembly.assemble import Assembled, assemble
from clusterwise.assembly.build import Specification
from clusterwise.assembly.layout import ResponseSpec
from clusterwise.core.errors import FormulaError, OptionError
from clusterwise.core.runtime import double_precision
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.engines.checkpoint import Checkpoint
from clusterwise.engines.engine import AbstractEngine
from clusterwise.engines.problem import Outcome
from clusterwise.engines.registry import resolve_engine
from clusterwise.frames.formula import parse
from clusterwise.frames.table import open_table
from clusterwise.inference.progress import Progress, progress_reporter
from clusterwise.posteriors.specification import Normal, NormalInverseGamma, NormalInverseWishart
from clusterwise.regression.free import check_free, is_free
from clusterwise.responses.gaussian import resolve_family
from clusterwise.weights.specification import AbstractWeights, resolve_weights

if TYPE_CHECKING:
    import pandas as pd

    from clusterwise.fit import Fit

RandomState = int | np.random.Generator | np.random.RandomState | None
Prior = str | dict[str, Any]

_LATER = {"shared": None, "groups": None, "offset": None, "trials": None}
_LATER |= {"coefficients": "independent"}


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
        "gaussian" or `Gaussian`; a list with several responses.
    n_components
        Number of clusters, or the truncation of a Dirichlet or Pitman-Yor process.
    covariates
        Columns of p(x | z), as a formula's right side or a list of `GaussianCovariates`; None
        for the conditional model p(y | x).
    weights
        "dirichlet", "dirichlet_process", "pitman_yor", or `Dirichlet`, `DirichletProcess`,
        `PitmanYor`, `KnownWeights`.
    shared, coefficients, groups, offset, trials
        Not supported by this version; anything but the default is an error.
    sample_weight
        Column, or expression of columns, with a weight of each row; zero leaves a row out.
    prior
        "default": weakly informative and moving with the units; coefficients are centred at the
        regression of all rows and worth a hundredth of a row.
        "flat": maximum likelihood. Or a dictionary from a response's name, or "covariates", to a
        conjugate prior on the data's own scale; the parts it does not name have the default.
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
    covariates: str | Sequence[GaussianCovariates] | None = None
    weights: str | AbstractWeights = "dirichlet"
    shared: str | None = None
    coefficients: str = "independent"
    groups: str | None = None
    offset: str | None = None
    trials: str | None = None
    sample_weight: str | None = None
    prior: Prior = "default"

    def __post_init__(self) -> None:
        for name, default in _LATER.items():
            if getattr(self, name) != default:
                raise OptionError(
                    f"{name}={getattr(self, name)!r} is not supported by this version; leave "
                    f"{name} at {default!r}."
                )
        _check_components(self.n_components)
        resolve_weights(self.weights, self.n_components)
        self._check_prior()

    def _check_prior(self) -> None:
        if isinstance(self.prior, str):
            if self.prior not in ("default", "flat"):
                raise OptionError(
                    f"prior={self.prior!r} is not known; use 'default', 'flat' or a dictionary of "
                    "priors such as {'y': cw.NormalInverseGamma(...)}."
                )
            return
        kinds = (Normal, NormalInverseGamma, NormalInverseWishart)
        for key, value in dict(self.prior).items():
            if is_free(value):
                check_free(key, value)
                continue
            if not isinstance(value, kinds) and value != "default":
                raise OptionError(
                    f"prior[{key!r}] is {value!r}; use 'default' or "
                    f"{', '.join('cw.' + kind.__name__ for kind in kinds)}."
                )

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
            larger than memory.
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
        from clusterwise.record import make_record

        started = time.perf_counter()
        chosen = resolve_engine(engine)
        table = open_table(data)
        spec = self.specification(table.names)
        chosen.check(not spec.flat, spec.free)
        rng = as_generator(random_state)
        kept = _open_checkpoint(checkpoint, chosen, rng, random_state is not None)
        with progress_reporter(progress) as report:
            assembled, outcome = _infer(self, spec, table, chosen, rng, report, kept)
        seconds = time.perf_counter() - started
        fit = Fit(self, make_record(chosen.name, assembled, outcome, seconds))
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
            (k, d) and "covariances" (k, d, d). With several responses, coefficients and sigma
            are dictionaries by response.
        random_state
            Seed or generator; the same seed gives the same rows.
        data
            Columns that the regression needs and no density of covariates gives. Its rows are
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
        from clusterwise.inference.simulate import read_truth, simulate

        if isinstance(params, Fit):
            if params.model.formula != self.formula:
                raise OptionError(
                    f"params is a fit of {params.model.formula!r}, not of {self.formula!r}; use "
                    "its own simulate method."
                )
            return params.simulate(n, random_state, data=data)
        spec = self.specification(open_table(data).names if data is not None else ())
        rights = {response.name: response.right for response in spec.responses}
        return simulate(rights, read_truth(spec, params), n, as_generator(random_state), data)

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
            For several responses, or prior="flat".

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
        """Resolve every argument, given the data's column names.

        Parameters
        ----------
        names
            Columns that "." in a formula stands for.

        Returns
        -------
        Specification
        """
        formulas = [self.formula] if isinstance(self.formula, str) else list(self.formula or [])
        families = self.family if isinstance(self.family, (list, tuple)) else [self.family]
        if len(families) == 1:
            families = list(families) * max(len(formulas), 1)
        if formulas and len(families) != len(formulas):
            raise OptionError(
                f"family has {len(families)} entries for {len(formulas)} formulas; give one, or "
                "one for each."
            )
        responses = []
        for text, family in zip(formulas, families, strict=False):
            parsed = parse(text, columns=names or None)
            if parsed.response is None:
                raise FormulaError(
                    f"The formula {text!r} has no response; write it as 'y ~ {text}', or use "
                    "formula=None with covariates for a plain mixture."
                )
            name = parsed.response.strip()
            plain = name[1:-1] if name[0] == name[-1] == "`" else name
            responses.append(ResponseSpec(plain, name, parsed.right, resolve_family(family)))
        if len({r.name for r in responses}) < len(responses):
            raise FormulaError("Each response may have one formula only.")
        densities = self._densities(names)
        if not responses and not densities:
            raise OptionError(
                "The model has neither a response nor covariates; give a formula, covariates, "
                "or both."
            )
        priors, flat = self._priors(responses, densities)
        return Specification(
            self.n_components,
            tuple(responses),
            densities,
            resolve_weights(self.weights, self.n_components),
            priors,
            flat,
            self.sample_weight,
        )

    def _densities(self, names: Sequence[str]) -> tuple[GaussianCovariates, ...]:
        if self.covariates is None:
            return ()
        blocks = (
            [GaussianCovariates(self.covariates)]
            if isinstance(self.covariates, str)
            else list(self.covariates)
        )
        found, seen = [], set()
        for block in blocks:
            if not isinstance(block, GaussianCovariates):
                raise OptionError(
                    f"covariates holds {block!r}; use a formula's right side or a list of "
                    "cw.GaussianCovariates."
                )
            parsed = parse(block.formula, response=False, columns=names or None)
            right = f"0 + {parsed.without_intercept.removeprefix('0 + ')}"
            terms = [term for term in parsed.terms if term]
            if not terms:
                raise FormulaError(f"covariates={block.formula!r} names no column.")
            if seen & set(terms):
                raise FormulaError("A covariate may stand in one block of covariates only.")
            seen |= set(terms)
            found.append(replace(block, formula=right))
        return tuple(found)

    def _priors(
        self, responses: Sequence[ResponseSpec], densities: Sequence[GaussianCovariates]
    ) -> tuple[dict[str, Any], bool]:
        kinds = {f"response:{i}": r.name for i, r in enumerate(responses)}
        kinds |= {f"covariates:{j}": "covariates" for j in range(len(densities))}
        if isinstance(self.prior, str):
            return dict.fromkeys(kinds, self.prior), self.prior == "flat"
        unknown = set(self.prior) - set(kinds.values())
        if unknown:
            raise OptionError(
                f"prior names {', '.join(map(repr, sorted(unknown)))}; this model has "
                f"{', '.join(map(repr, dict.fromkeys(kinds.values())))}."
            )
        return {kind: self.prior.get(name, "default") for kind, name in kinds.items()}, False


@double_precision
def _infer(
    model: Model,
    spec: Specification,
    table: Any,
    engine: AbstractEngine,
    rng: np.random.Generator,
    progress: Progress,
    checkpoint: Checkpoint | None,
) -> tuple[Assembled, Outcome]:
    assembled = assemble(spec, table, rng)
    if checkpoint is not None:
        from clusterwise.io import model_document

        said = json.dumps(model_document(model), sort_keys=True)
        checkpoint.identify(said, repr(engine), assembled.problem.source.digest())
    problem = assembled.problem._replace(checkpoint=checkpoint)
    return assembled, engine.run(problem, rng, progress)


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


def as_generator(random_state: RandomState) -> np.random.Generator:
    """A generator from a seed, a generator, or scikit-learn's kind of random state."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    if random_state is None or (isinstance(random_state, (int, np.integer)) and random_state >= 0):
        return np.random.default_rng(random_state)
    raise OptionError(
        f"random_state={random_state!r} must be None, a non-negative whole number or a NumPy "
        "generator."
    )


def _check_components(n_components: Any) -> None:
    whole = isinstance(n_components, (int, np.integer)) and not isinstance(n_components, bool)
    if not whole or n_components < 1:
        raise OptionError(f"n_components={n_components!r} must be a whole number, at least 1.")
