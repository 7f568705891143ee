"""A fitted model: its answers in the data's own units and names."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pandas as pd

from clusterwise.assembly.layout import GATES
from clusterwise.assembly.units import Values, in_data_units
from clusterwise.core.errors import ClusterwiseWarning, OptionError
from clusterwise.core.groups import first_rows, group_sizes, sum_groups
from clusterwise.core.random import RandomState, as_generator
from clusterwise.core.runtime import double_precision
from clusterwise.inference.components import ComponentPredictions
from clusterwise.inference.errors import StandardErrors, beside
from clusterwise.inference.estimates import Estimates
from clusterwise.inference.identifiability import alike_notes
from clusterwise.inference.mixture import ScoredMixture
from clusterwise.inference.modes import Mode
from clusterwise.inference.optima import optima_table
from clusterwise.inference.predictive import (
    AbstractPredictive,
    NormalPredictive,
    Question,
    StudentPredictive,
)
from clusterwise.inference.reading import RowReader
from clusterwise.inference.sampled import Partition, SampledMixture
from clusterwise.inference.similarity import similarity
from clusterwise.inference.summary import Summary
from clusterwise.inference.verdict import Verdict
from clusterwise.model import Model
from clusterwise.record import KEPT_ROWS, FitRecord
from clusterwise.weights.specification import resolve_weights

if TYPE_CHECKING:
    from os import PathLike

    import xarray as xr

    from clusterwise.bootstrap import Bootstrap
    from clusterwise.plots import FitPlots

_PREDICTION_DRAWS = 100


class Fit:
    """A fitted mixture of regressions; made by `Model.fit` or `load`.

    Components are numbered from 0, the largest weight first.

    Attributes
    ----------
    model : Model
        What was fitted.
    engine : str
        Name of the engine.
    log_likelihood : float
        Log likelihood of all rows at the point estimates, on the data's scale.
    objective : float
        What the engine maximised: for EM the log likelihood plus the log prior up to a constant,
        for variational inference the evidence lower bound (for Gibbs, of its start).
    n_parameters : int
        Free parameters: weights, identified coefficients and dispersions.
    n_groups : int or None
        Groups of rows that share a cluster, where the model has them.
    n_rows : int
        Rows that were fitted.
    converged : bool
        Whether the engine met its tolerance; True for sampling.
    n_iter : int
        Iterations, epochs or sweeps.
    history : numpy.ndarray
        The objective after every iteration; for Gibbs the log likelihood of every draw.
    restarts : pandas.DataFrame
        Distinct optima: log likelihood, objective, how many of the starts reached each and from
        which recipes, whether it is degenerate and why, and which was chosen.
    notes : tuple of str
        What is awkward about the data or the fit.
    missing : pandas.Series
        How many values of each column were missing.
    seconds : float
        Wall time of the fit.
    reader : RowReader
        How new data become rows: coding, units, and the responses' names.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-1, 1, 300)
    >>> y = np.where(rng.random(300) < 0.3, 3 * x, 1 - x) + 0.1 * rng.normal(size=300)
    >>> fit = cw.Model("y ~ x").fit({"x": x, "y": y}, engine="em", random_state=0)
    >>> fit.coefficients.round(1)
               Intercept    x
    component
    0                1.0 -1.0
    1                0.0  3.0
    """

    def __init__(self, model: Model, record: FitRecord) -> None:
        self.model = model
        self._record = record
        self._layout = record.layout
        self._estimates = Estimates(record.layout, in_data_units(record.layout, record.parameters))
        self.reader = RowReader(record.encoder, record.design, record.layout)
        self.engine = record.engine
        self.log_likelihood = record.log_likelihood
        self.objective = record.objective
        self.n_parameters = record.n_parameters
        self.n_rows = record.n_rows
        self.n_groups = record.n_groups
        self.converged = record.converged
        self.n_iter = record.n_iter
        self.history = record.history
        self.restarts = pd.DataFrame(record.restarts)
        self.missing = pd.Series(record.encoder.missing, name="missing", dtype=int)
        self.seconds = record.seconds

    def __repr__(self) -> str:
        return (
            f"<Fit of {self.model.formula!r}, {self.n_components} components, "
            f"engine={self.engine!r}, log likelihood {self.log_likelihood:.6g}>"
        )

    @property
    def record(self) -> FitRecord:
        """The numbers behind the answers, in standard units."""
        return self._record

    @property
    def n_components(self) -> int:
        """Number of components."""
        return self._record.n_components

    @property
    def bic(self) -> float:
        """Bayesian information criterion, smaller is better.

        Rows count with their weight; where those of a group share a cluster, groups count.
        """
        penalty = self.n_parameters * np.log(self._record.n_units)
        return float(penalty - 2 * self.log_likelihood)

    @property
    def icl(self) -> float:
        """BIC plus twice the entropy of the memberships (Biernacki et al. 2000)."""
        return self.bic + 2 * self._record.entropy

    def warn_if_unsettled(self) -> None:
        """Warn where the engine stopped before it met its tolerance."""
        if not self.converged:
            warnings.warn(
                f"engine={self.engine!r} stopped after {self.n_iter} iterations before it "
                "converged; raise max_iter (max_epochs for svi and memoized), or relax tol.",
                ClusterwiseWarning,
                stacklevel=3,
            )

    # -- estimates ------------------------------------------------------------------------------

    @property
    def weights(self) -> pd.Series:
        """Mixing weights, largest first; averages over the fitted rows where they have gates."""
        return pd.Series(self._estimates.values.weights, self._estimates.components, name="weight")

    @property
    def gates(self) -> pd.DataFrame:
        """Coefficients of mixing weights that depend on covariates: one row a component.

        By the multinomial logit (`Gated`) those of the log odds against component 0, whose row is
        zero. By stick-breaking (`LogitStickBreaking`) those of the log odds of a component's
        stick; the index then has the stick's place beside the component's number, and the last
        stick, which takes what is left, has none. Without columns where weights are constant.
        """
        return self._estimates.gates()

    @property
    def coefficients(self) -> pd.DataFrame:
        """Regression coefficients: one row a component, one column a term.

        With several responses the columns are (response, term). Coefficients that the data do not
        identify are 0; `not_identified` names them.
        """
        return self._estimates.coefficients()

    @property
    def not_identified(self) -> tuple[tuple[str, str], ...]:
        """(response, term) of the coefficients that the data do not identify."""
        return self._estimates.not_identified()

    @property
    def dispersion(self) -> pd.DataFrame:
        """Residual standard deviation sigma of each component's regression."""
        return self._estimates.dispersion()

    @property
    def means(self) -> pd.DataFrame:
        """Mean of each modelled covariate in each component."""
        return self._estimates.means()

    @property
    def covariances(self) -> list[pd.DataFrame]:
        """Covariance matrix of the modelled covariates of each component."""
        return self._estimates.covariances()

    @property
    def levels(self) -> dict[str, pd.DataFrame]:
        """Probabilities of the levels of each categorical covariate: one row a component."""
        return self._estimates.levels()

    @cached_property
    def population(self) -> pd.DataFrame:
        """Distribution over clusters that pooled coefficients come from: its mean and deviation.

        With `coefficients="hierarchical"`: one row a term, or (response, term), and columns mean
        and sd, with the posterior's standard deviation of each where there is a posterior. Terms
        that all clusters share have sd 0, those that groups of them share have NaN. Empty where
        nothing is pooled.
        """
        if all(own.pooled_mean is None for own in self._estimates.values.parts):
            return pd.DataFrame()
        try:
            drawn = in_data_units(self._layout, self._with_draws())
        except OptionError:
            return self._estimates.population(None)
        return self._estimates.population(drawn)

    @property
    def profiles(self) -> dict[str, pd.DataFrame]:
        """Parameters of each covariate that is neither Gaussian nor categorical, by column.

        One row a component: a probability, a rate, or location, sigma and nu.
        """
        return self._estimates.profiles()

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What is awkward about the data or the fit, and clusters that hardly differ."""
        record = self._record
        units = record.layout.in_standard_units
        spread = record.standard_deviations(units)
        if spread is None:
            return record.notes
        values = in_data_units(units, record.parameters)
        return (*record.notes, *alike_notes(units, values, spread, record.total_weight))

    def summary(self, errors: StandardErrors | None = None) -> Summary:
        """Table of the components, with standard deviations where the engine gives any.

        Parameters
        ----------
        errors
            Standard errors of the fit, which then stand beside the estimates as "(se)".
        """
        best = self.restarts[self.restarts["chosen"]].iloc[0]
        groups = "" if self.n_groups is None else f" in {self.n_groups} groups"
        facts = (
            f"{self.n_rows} rows{groups}, log likelihood {self.log_likelihood:.6f}, "
            f"{self.n_parameters} parameters, BIC {self.bic:.4f}, ICL {self.icl:.4f}",
            f"{self.engine}: {'converged' if self.converged else 'NOT converged'} after "
            f"{self.n_iter} iterations in {self.seconds:.2f} s; {best['reached']} of "
            f"{best['starts']} starts reached this optimum, {len(self.restarts)} optima seen",
        )
        if self.has_chains:
            facts = (*facts, f"chains: {self.verdict}")
        title = f"Mixture of {self.n_components}: {self._describe()}"
        table = self._estimates.table(self._spread)
        population = self.population
        if errors is None:
            return Summary(title, facts, table, self.notes, population)
        shown, notes = beside(table, errors.table), (*self.notes, *errors.notes)
        return Summary(title, facts, shown, notes, population)

    def standard_errors(self, data: Any) -> StandardErrors:
        """Standard errors of an EM fit's estimates, from the observed information.

        The information is the exact curvature of what EM maximised, the log likelihood and with
        a prior that is not flat its log density; errors in data units follow by the delta method.
        Those of weights that depend on covariates are of their average over these rows, whose
        covariates are given. With few rows in a component the likelihood is not close to a
        quadratic, and errors from `bootstrap` say more.

        Parameters
        ----------
        data
            The rows that were fitted, as for `Model.fit`.

        Returns
        -------
        StandardErrors
            Frames in the shape of the estimates', and the covariance of all of them. Give it to
            `summary` to see both.

        Raises
        ------
        DataError
            Where the data are not those of the fit, or parameters are not identified, which the
            message names.
        OptionError
            Where the engine gives a posterior, or the optimum is degenerate.

        References
        ----------
        Louis (1982), JRSS B 44; Oakes (1999), JRSS B 61.

        Examples
        --------
        >>> import numpy as np, clusterwise as cw
        >>> x = np.linspace(0, 1, 40)
        >>> data = {"x": x, "y": 1 + x + 0.1 * np.sin(40 * x)}
        >>> model = cw.Model("y ~ x", n_components=1, prior="flat")
        >>> fit = model.fit(data, engine="em", random_state=0)
        >>> fit.standard_errors(data).coefficients.round(3)
                   Intercept      x
        component
        0              0.022  0.038
        """
        from clusterwise.refit import errors_of

        return errors_of(self.model, self._record, data)

    def bootstrap(
        self,
        data: Any,
        n_replicates: int = 200,
        kind: str = "nonparametric",
        random_state: RandomState = None,
        progress: bool | Callable[[str, int, int], None] = False,
    ) -> Bootstrap:
        """Refit rows drawn anew, each from this fit's optimum, and relabel to this fit.

        Parameters
        ----------
        data
            The rows that were fitted, as for `Model.fit`.
        n_replicates
            Number of refits.
        kind
            "nonparametric" draws rows with replacement; "parametric" simulates from the estimates,
            given what no density of the model gives. Where rows share clusters, whole groups are
            drawn, and one that is drawn twice may have two clusters.
        random_state
            Seed or generator; the same seed gives the same replicates.
        progress
            As for `Model.fit`.

        Returns
        -------
        Bootstrap
            Standard errors, percentile intervals, bias, and the replicates as frames. The prior
            and the units stay those of the fit.

        Raises
        ------
        DataError, OptionError
            Where the data are not those of the fit, or the fit is no optimum of EM.

        References
        ----------
        Efron and Tibshirani (1993), An Introduction to the Bootstrap; O'Hagan, Murphy, Scrucca
        and Gormley (2019), Computational Statistics 34.
        """
        from clusterwise.bootstrap import bootstrap

        return bootstrap(self, data, n_replicates, kind, random_state, progress)

    def _describe(self) -> str:
        formulas = self.model.formula
        text = ", ".join([formulas] if isinstance(formulas, str) else formulas or ["no response"])
        estimates = self._estimates
        densities = [name for i in self._layout.gaussian for name in estimates.modelled(i)]
        densities += [*estimates.levels(), *estimates.profiles()]
        return text + (f"; density of {', '.join(densities)}" if densities else "")

    @cached_property
    def _spread(self) -> Values | None:
        return self._record.standard_deviations()

    def _with_draws(self) -> Any:
        """Draws of the posterior, made now where the engine made none."""
        self._record = self._record.with_draws()
        if self._record.draws is None:
            raise OptionError(
                f"engine={self.engine!r} gives a point, not a posterior; fit with engine='vi', "
                "'gibbs' or 'nuts'."
            )
        return self._record.draws

    def report(self, path: str | PathLike[str], data: Any = None, *, selection: Any = None) -> None:
        """Write the fit as one HTML page that needs no network and no other file.

        It opens with the answer in words, and has tables, plots, diagnostics, the other optima, and
        a panel that predicts from covariates that a reader enters.

        Parameters
        ----------
        path
            The file, which is replaced.
        data
            The rows that were fitted, as for `Model.fit`. Without them the page has no plots of
            rows and no description of the data.
        selection
            What `cw.select` returned, where the fit was chosen by it.

        Raises
        ------
        FileError
            Where the file cannot be written.
        """
        from clusterwise.report.document import write_report

        write_report(self, path, data, selection=selection)

    def save(self, path: str | PathLike[str]) -> None:
        """Save to a folder that `load` reads: JSON and arrays, no pickle.

        A sampled fit also writes `posterior` there as posterior.nc, netCDF for other programs;
        `load` does not need it.

        Parameters
        ----------
        path
            A folder that does not exist, is empty, or holds a saved fit, which is replaced.

        Raises
        ------
        FileError
            Where the folder holds anything else or cannot be written, or the model has a family
            or another part that `load` does not know.
        """
        from clusterwise.io import save

        save(self.model, self._record, path)

    @cached_property
    def posterior(self) -> xr.DataTree:
        """Draws as an ArviZ DataTree, for arviz-stats and arviz-plots as it is.

        Group "posterior" has weights, coefficients, sigma, means and covariance by chain, draw,
        component, and coef or covariate; with several responses the names of coefficients and
        sigma begin with the response's. Draws are relabelled to the point fit's components.
        "sample_stats" has what the sampler noted, and `permutation`, its own number of each
        component.

        "log_likelihood" (of each row, clusters summed out) has one variable, named as the
        response, or "rows" under a joint model or with several responses;
        "posterior_predictive" has new responses given the covariates; "observed_data" and
        "constant_data" have what they are compared with. Their values are computed when they are
        first used. Fits of more than 262,144 rows, and loaded variational fits, go without them,
        as attribute `groups_left_out` then says.

        Raises
        ------
        OptionError
            For EM, which gives a point only.
        """
        self._with_draws()
        return self._record.tree()

    # -- draws ----------------------------------------------------------------------------------

    @cached_property
    def _sampled(self) -> SampledMixture:
        draws, record = self._with_draws(), self._record
        rows = np.zeros((0, 0)) if record.rows is None else record.rows[record.rows[:, -1] > 0, :-1]
        weights = resolve_weights(self.model.weights, self.n_components)
        groups = double_precision(weights.prior)(self.n_components, flat=False).label_groups
        kinds = self._layout.component_kinds(self.n_components)
        if kinds is not None:
            groups = np.unique([groups, kinds], axis=1, return_inverse=True)[1].ravel()
        return SampledMixture(self.reader, record.block, draws, record.log_density, rows, groups)

    @property
    def _chains(self) -> SampledMixture:
        """The draws of a sampling engine."""
        self._check_chains()
        return self._sampled

    def _check_chains(self) -> None:
        if self._record.permutation is None:
            raise OptionError(
                f"engine={self.engine!r} runs no chains to look at; fit with engine='gibbs' or "
                "'nuts'."
            )

    def relabel(self, method: str = "ecr") -> Fit:
        """The fit with the components of its draws matched anew.

        Engines match each draw to the variational fit that it started from. Where clusters
        overlap so much that this fit is not good enough, an iterative method may do better.

        Parameters
        ----------
        method
            "ecr" (iterative equivalence classes representatives), "stephens" (Kullback-Leibler),
            or "pivot" (the draws' average as it is).

        Returns
        -------
        Fit
            A new one, with point estimates, densities and draws in the new numbers. Quantities
            that no renumbering changes stay as they are.

        Raises
        ------
        OptionError
            Where there are no chains, the method is unknown, or the fit has more than 262,144
            rows, of which it keeps a sample only.

        References
        ----------
        Papastamoulis and Iliopoulos (2010), JCGS 19; Stephens (2000), JRSS B 62.
        """
        chains = self._chains
        if not self._record.rows_are_all:
            raise OptionError(
                f"relabel needs all {self.n_rows} rows, and fits keep no more than {KEPT_ROWS}; "
                "fit a sample of the rows to compare methods."
            )
        return Fit(self.model, self._record.relabelled(chains.permutation(method)))

    @cached_property
    def diagnostics(self) -> pd.DataFrame:
        """R-hat, effective sample sizes and Monte Carlo error of every quantity that was sampled.

        Rows of kind "component" are parameters of relabelled components; those of kind
        "invariant" (log density, whether some rows are together, the density of some rows) do not
        change when components are renumbered.
        """
        return self._chains.diagnostics()

    @cached_property
    def verdict(self) -> Verdict:
        """What to make of the chains, in words: a flag and sentences that name the cure."""
        return self._chains.verdict(self.diagnostics, self._record.sample_stats)

    @property
    def label_confidence(self) -> pd.Series:
        """Probability that a draw's component has the right number, by component and "overall".

        Components without rows are left out.
        """
        return self._chains.label_confidence()

    @property
    def modes(self) -> list[Mode]:
        """Modes that the draws fall into, beyond renumbering, the largest share first."""
        return self._chains.modes

    @property
    def optima(self) -> pd.DataFrame:
        """Point estimates of every optimum of `restarts`: one row an (optimum, component).

        Modes that differ by more than the numbers of components stand here side by side, also
        those that no chain visited.
        """
        record = self._record
        if record.optima is None:
            raise OptionError("This fit was saved before fits kept their optima; fit again.")
        return optima_table(record.layout, record.optima, record.restarts)

    def similarity(self, data: Any, n_draws: int = 500) -> np.ndarray:
        """Posterior probability that two rows share a cluster.

        Parameters
        ----------
        data
            As for `Model.fit`; up to 10,000 rows.
        n_draws
            Draws to average over, evenly spread.

        Returns
        -------
        numpy.ndarray
            (n, n), ones on the diagonal.
        """
        sampled = self._sampled
        mixture, _ = sampled.thinned(n_draws)
        rows, groups = self._all_rows(data), self._layout.group_columns
        shares = np.concatenate(list(sampled.memberships(mixture, rows)), axis=1)
        first = first_rows(groups, rows)
        place = np.repeat(np.arange(len(first)), group_sizes(first, len(rows)))
        place = self.reader.in_order(place, data)
        return similarity(shares[:, first])[np.ix_(place, place)]

    def partition(
        self,
        data: Any,
        loss: str = "vi",
        *,
        level: float = 0.95,
        n_draws: int = 500,
        random_state: RandomState = 0,
    ) -> Partition:
        """One partition of rows for all draws, with a credible ball and the number of clusters.

        Parameters
        ----------
        data
            As for `Model.fit`; 50,000 rows take some ten seconds.
        loss
            "vi" (variation of information) or "binder", whose posterior expectation is least.
        level
            Posterior probability of the credible ball.
        n_draws
            Draws of the rows' clusters, evenly spread over the posterior.
        random_state
            For the clusters that are drawn.

        Returns
        -------
        Partition

        References
        ----------
        Wade and Ghahramani (2018), Bayesian Analysis 13; Dahl, Johnson and Mueller (2022), JCGS 31.
        """
        rng = as_generator(random_state)
        found = self._sampled.partition(self._all_rows(data), loss, level, n_draws, rng)
        return found.map(lambda labels: self.reader.in_order(labels, data))

    def parameter_draws(self) -> dict[str, np.ndarray]:
        """Draws (chain, draw, component) of every parameter that each component has.

        Names are those of `diagnostics` without the component: "weight", "coefficient[x]".

        Raises
        ------
        OptionError
            For EM, which gives a point only.
        """
        values, coords = self._sampled.quantities()
        found = {}
        for name, draws in values.items():
            labels = coords[name][1:]
            for place in np.ndindex(*draws.shape[3:]):
                inner = ", ".join(str(labels[axis][i]) for axis, i in enumerate(place))
                found[f"{name}[{inner}]" if inner else name] = draws[(..., *place)]
        return found

    @property
    def has_posterior(self) -> bool:
        """Whether there are draws, or a posterior to make them from; False of EM."""
        return self._record.draws is not None or self._record.posterior is not None

    @property
    def has_chains(self) -> bool:
        """Whether a sampling engine made the fit."""
        return self._record.permutation is not None

    @property
    def permutation(self) -> np.ndarray:
        """(chain, draw, component): the number that the sampler had given to each component.

        Raises
        ------
        OptionError
            Where the engine runs no chains.
        """
        self._check_chains()
        assert self._record.permutation is not None
        return self._record.permutation

    def _all_rows(self, data: Any) -> np.ndarray:
        return np.concatenate(list(self.reader.rows(data, response=True, regressors=True)))

    # -- rows -----------------------------------------------------------------------------------

    @cached_property
    def _expected(self) -> ScoredMixture:
        """Scores under the engine's own expectations."""
        return self._record.scored()

    @cached_property
    def _at_draws(self) -> NormalPredictive:
        """What some draws of the parameters, or the point estimates, say of new rows."""
        return self._over_draws(_PREDICTION_DRAWS)

    def _over_draws(self, n_draws: int) -> NormalPredictive:
        """What so many draws, evenly spread, say; all of them where there are fewer."""
        self._record = record = self._record.with_draws()
        draws = record.draws
        if draws is None:
            chosen = jax.tree.map(lambda leaf: np.asarray(leaf)[None], self._record.parameters)
        else:
            flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)
            total = jax.tree.leaves(flat)[0].shape[0]
            places = np.linspace(0, total - 1, min(total, n_draws)).round().astype(int)
            chosen = jax.tree.map(lambda leaf: leaf[places], flat)
        return NormalPredictive(self.reader, self._record.block, chosen)

    @property
    def predictive(self) -> AbstractPredictive:
        """The distribution of new rows, in standard units."""
        return self._predictive

    @cached_property
    def _predictive(self) -> AbstractPredictive:
        closed = self._record.predictive()
        if closed is None:
            return self._at_draws
        return StudentPredictive(self.reader, closed, lambda: self._at_draws)

    @property
    def memberships(self) -> ScoredMixture:
        """What `responsibilities` scores rows with, in standard units."""
        sampled = self._record.log_density is not None
        return self._at_draws.mixture if sampled else self._expected

    def responsibilities(self, data: Any, use_response: bool = True) -> np.ndarray:
        """Probability of each component for each row.

        Parameters
        ----------
        data
            As for `Model.fit`.
        use_response
            Whether to condition on the response as well as on the covariates; without it the
            data need not have the response.

        Returns
        -------
        numpy.ndarray
            (n, n_components), rows summing to one. Averaged over draws for a sampled fit, each
            counting alike: the rows asked about are no evidence on the parameters.
        """
        parts = self.reader.blocks(response=use_response)
        rows = self.reader.rows(data, response=use_response, regressors=use_response)
        scored = self.memberships
        found = np.concatenate([scored.responsibilities(block, parts) for block in rows])
        return self.reader.in_order(found, data)

    def assign(self, data: Any, use_response: bool = True) -> np.ndarray:
        """Most probable component of each row.

        Parameters
        ----------
        data, use_response
            As for `responsibilities`.

        Returns
        -------
        numpy.ndarray
            (n,) whole numbers, 0 the component with the largest weight.
        """
        return self.responsibilities(data, use_response).argmax(axis=1)

    def score_samples(self, data: Any) -> np.ndarray:
        """Log density of each row.

        Parameters
        ----------
        data
            As for `Model.fit`.

        Returns
        -------
        numpy.ndarray
            (n,): log p(x, y) if covariates are modelled, else log p(y | x), on the data's scale;
            the posterior predictive density where there is a posterior. Where rows of a group
            share a cluster, one value a group, in order of first appearance.
        """
        mixture = self._predictive
        parts = self.reader.blocks(response=True)
        rows = self.reader.rows(data, response=True, regressors=True)
        layout, found = self._layout, []
        for block in rows:
            first = first_rows(layout.group_columns, block)
            groups = layout.group_columns
            scales = sum_groups(groups, block, layout.log_scales(np.isnan(block)))[first]
            found.append(mixture.log_density(block, parts)[first] - scales)
        return np.concatenate(found)

    def predict(
        self,
        data: Any,
        kind: str = "mean",
        *,
        q: float | Sequence[float] = (0.05, 0.5, 0.95),
        level: float = 0.9,
        n_samples: int = 100,
        response: str | None = None,
        random_state: RandomState = 0,
    ) -> np.ndarray | pd.DataFrame:
        """Predict the response given the covariates.

        Clusters are weighted by p(z | x) under the joint model and by the mixing weights under
        the conditional one. Predictions of sampled fits are averaged over draws; those of
        variational fits come from the posterior predictive distribution, a mixture of Student t's.
        Under the joint model covariates may be missing: predictions average over them.

        Parameters
        ----------
        data
            As for `Model.fit`; the response is needed for kind="density" only.
        kind
            "mean", "quantile", "interval", "density" (of the response in the data) or "sample".
        q
            Levels for kind="quantile".
        level
            Probability of the central interval.
        n_samples
            Draws for each row for kind="sample". The rows of one have one draw of the parameters
            of a sampled fit, so that it is a data set of the posterior predictive distribution;
            of a variational fit rows are drawn apart.
        response
            Which response, where the model has several; kind="mean" gives all.
        random_state
            For kind="sample".

        Returns
        -------
        numpy.ndarray or pandas.DataFrame
            mean (n,), or a frame with one column a response; quantile (n, len(q)); interval
            (n, 2); density (n,); sample (n_samples, n).
        """
        rng = as_generator(random_state)
        question = Question.check(kind, q=q, level=level, n_samples=n_samples, rng=rng)
        if not self._layout.responses:
            raise OptionError("The model has no response to predict; give Model a formula.")
        if kind == "mean" and response is None and len(self._layout.responses) > 1:
            names = [name for name, _ in self._layout.responses]
            return pd.DataFrame({n: self.predict(data, response=n) for n in names})
        part = self._response_part(response)
        rows = self.reader.rows(
            data,
            response=kind == "density",
            regressors=True,
            complete=(self._layout.parts[part].kind,),
        )
        predictive = self._predictive
        if predictive is self._at_draws and question.shared.size > _PREDICTION_DRAWS:
            # Each sample has a draw of its own.
            predictive = self._over_draws(question.shared.size)
        found = predictive.predict(rows, part, question)
        return self.reader.in_order(found, data, axis=1 if kind == "sample" else 0)

    def component_predictions(
        self, data: Any, response: str | None = None, *, observed: bool = False
    ) -> ComponentPredictions:
        """What each component says of a response at some rows: means, intervals, residuals.

        Parameters
        ----------
        data
            As for `predict`, without missing values.
        response
            Which response, where the model has several.
        observed
            Whether the data have the response too, for its residuals.

        Returns
        -------
        ComponentPredictions
        """
        part = self._response_part(response)
        rows = self.reader.rows(
            data,
            response=observed,
            regressors=True,
            complete=self.reader.encoder.designs,
        )
        return ComponentPredictions(
            np.concatenate(list(rows)),
            self.reader.order(data),
            part,
            self.n_components,
            self._predictive,
            self._at_draws,
        )

    @property
    def plot(self) -> FitPlots:
        """Plots of the fit: `fit.plot.clusters(data)` and others, drawn with matplotlib."""
        from clusterwise.plots import FitPlots

        return FitPlots(self)

    def simulate(
        self, n: int | None, random_state: RandomState = None, *, data: Any = None
    ) -> pd.DataFrame:
        """Simulate rows from the point estimates; see `Model.simulate`.

        Parameters
        ----------
        n
            Number of rows; None for as many as `data` has.
        random_state
            Seed or generator.
        data
            Columns that the regression needs and no density of covariates gives.

        Returns
        -------
        pandas.DataFrame
            Covariates, responses, and "component".
        """
        from clusterwise.inference.simulate import simulate
        from clusterwise.inference.truth import estimated_truth

        encoder = self._record.encoder
        designs = encoder.to_dict()["designs"]
        # The encoder's formulas have "." written out.
        responses = [
            replace(response, right=designs[f"regressors:{i}"]["formula"])
            for i, response in enumerate(self.model.specification().responses)
        ]
        truth = estimated_truth(self._estimates, encoder.levels)
        rng, groups = as_generator(random_state), self.model.groups
        gating = designs[GATES]["formula"] if GATES in designs else None
        return simulate(responses, truth, n, rng, data, encoder, groups, gating)

    def _response_part(self, response: str | None) -> int:
        names = dict(self._layout.responses)
        if not names:
            raise OptionError("The model has no response to predict; give Model a formula.")
        if response is None and len(names) == 1:
            return next(iter(names.values()))
        if response not in names:
            raise OptionError(f"response={response!r}: name one of {', '.join(map(repr, names))}.")
        return names[response]
