"""`fit.plot`: every plot of a fit, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from clusterwise.core.random import RandomState
from clusterwise.plots import chains, checks, clusters, dependence, estimates, memberships, search

if TYPE_CHECKING:
    from clusterwise.fit import Fit


class FitPlots:
    """Plots of a fit; `Fit.plot`.

    Every plot returns its Axes, or an array of them where it has several panels, and draws where
    `ax` says: an Axes, an array of as many Axes as there are panels, or a Figure. An Axes of a grid
    of subplots is divided where there are several panels. Without `ax` a figure is made that
    pyplot does not know of: save it with ``axes.figure.savefig(path)``; in a notebook
    ``axes.figure`` shows it.

    A cluster has the same colour, marker and dashes in all plots. More than 5,000 rows are
    shown by a sample, the same every time, and the title says so.

    Parameters
    ----------
    fit : Fit
        The fit.

    Examples
    --------
    >>> import numpy as np, clusterwise as cw
    >>> x = np.linspace(-1, 1, 100)
    >>> y = np.where(np.arange(100) % 2, 3 * x, -x) + 0.1 * np.sin(50 * x)
    >>> fit = cw.Model("y ~ x").fit({"x": x, "y": y}, engine="em", random_state=0)
    >>> axes = fit.plot.clusters({"x": x, "y": y})
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('x', 'y')
    """

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    def __repr__(self) -> str:
        names = [name for name in dir(self) if not name.startswith("_")]
        return f"<plots of {self._fit!r}: {', '.join(names)}>"

    # -- what the clusters are --------------------------------------------------------------------

    def clusters(
        self,
        data: Any,
        *,
        x: str | None = None,
        response: str | None = None,
        level: float = 0.9,
        ax: Any = None,
    ) -> Any:
        """Rows coloured by cluster, with each cluster's mean response and an interval.

        The response's other regressors are held at their mean, or their first level. The interval
        has a share `level` of a cluster's rows; of zeros and ones, and of levels, it is that of
        the probability instead, where there is a posterior. A response of several levels has a
        panel for each, and a binomial one is shown as a share of its trials.

        Without a regression, or where `response` is another column, `x` and `response` are two
        columns, with an ellipse of 2 standard deviations of each cluster's density if both are
        modelled. One column alone is shown as a histogram with each cluster's weighted density.

        Parameters
        ----------
        data
            As for `Fit.predict`, with the response.
        x
            Column across; by default the first numeric regressor.
        response
            Column upwards; by default the first response.
        level
            Probability of the interval.
        ax
            Where to draw.

        Returns
        -------
        Axes, or array of Axes
            Several for a response of levels.
        """
        return clusters.clusters(self._fit, data, x=x, response=response, level=level, ax=ax)

    def partial_dependence(
        self,
        data: Any,
        terms: str | Sequence[str] | None = None,
        *,
        response: str | None = None,
        level: float = 0.9,
        ax: Any = None,
    ) -> Any:
        """Each cluster's mean response by one column, averaged over the others' values.

        The column is set to each value in turn in at most 200 rows of the data (Friedman 2001,
        Annals of Statistics 29). Intervals are of the mean, by draws, where there is a posterior.

        Parameters
        ----------
        data
            As for `Fit.predict`, with the response, by which clusters without rows are left out.
        terms
            Columns of the regression, a panel each; by default all.
        response
            Which response; by default the first.
        level
            Probability of the interval.
        ax
            Where to draw.

        Returns
        -------
        Axes, or array of Axes
        """
        return dependence.partial_dependence(
            self._fit, data, terms, response=response, level=level, ax=ax
        )

    def coefficients(
        self,
        *,
        response: str | None = None,
        errors: pd.DataFrame | None = None,
        level: float = 0.9,
        ax: Any = None,
    ) -> Any:
        """Coefficients of the clusters side by side, one panel a term, with a line at zero.

        Parameters
        ----------
        response
            Which response; by default all.
        errors
            Standard errors as `Fit.standard_errors(data).coefficients`, for normal intervals.
            By default intervals are quantiles of draws; EM has none and shows points.
        level
            Probability of the interval.
        ax
            Where to draw.

        Returns
        -------
        Axes, or array of Axes
        """
        return estimates.coefficients(
            self._fit, response=response, errors=errors, level=level, ax=ax
        )

    def profile(self, *, ax: Any = None) -> Any:
        """Covariates of each cluster as a heat map.

        Colours are means in standard deviations from the mean of all clusters, both by the
        model, and numbers the means; of categorical covariates, probabilities of levels; of
        others their parameters, colours being standard deviations between clusters.

        Returns
        -------
        Axes, or array of Axes
            One for each kind of covariate.
        """
        return estimates.profile(self._fit, ax=ax)

    def predictions(self, data: Any, *, response: str | None = None, ax: Any = None) -> Any:
        """Observed against predicted response, each row by the regression of its cluster.

        Parameters
        ----------
        data
            As for `Fit.predict`, with the response.
        response
            Which response; by default the first.
        ax
            Where to draw.

        Returns
        -------
        Axes
        """
        return checks.predictions(self._fit, data, response=response, ax=ax)

    # -- how sure the clusters of rows are --------------------------------------------------------

    def responsibilities(
        self, data: Any, *, clusters: tuple[int, int] | None = None, ax: Any = None
    ) -> Any:
        """Who is uncertain: rows' largest probability and entropy, by cluster.

        Each curve says which share of a cluster's rows have a value up to the one below it.

        Parameters
        ----------
        data
            As for `Fit.responsibilities`.
        clusters
            Two clusters, to see rows by their probabilities of these instead.
        ax
            Where to draw.

        Returns
        -------
        array of Axes
            One Axes where `clusters` are given.
        """
        return memberships.responsibilities(self._fit, data, clusters=clusters, ax=ax)

    def similarity(self, data: Any, *, loss: str = "vi", n_draws: int = 500, ax: Any = None) -> Any:
        """Probability that two rows share a cluster, rows ordered by the point partition.

        More than 500 rows are shown by a sample.

        Parameters
        ----------
        data, loss, n_draws
            As for `Fit.partition`.
        ax
            Where to draw.

        Returns
        -------
        Axes
        """
        return memberships.similarity(self._fit, data, loss=loss, n_draws=n_draws, ax=ax)

    # -- chains -----------------------------------------------------------------------------------

    def trace(self, names: str | Sequence[str] | None = None, *, ax: Any = None) -> Any:
        """Draws of parameters in turn, chain after chain, after relabelling.

        Parameters
        ----------
        names
            Parameters as `Fit.diagnostics` names them, without the component: "weight",
            "coefficient[x]", or "coefficient" for all of its terms; by default all, 24 at most.
        ax
            Where to draw.

        Returns
        -------
        Axes, or array of Axes
            One a parameter.
        """
        return chains.trace(self._fit, names, ax=ax)

    def ranks(self, names: str | Sequence[str] | None = None, *, ax: Any = None) -> Any:
        """Histogram of each chain's ranks among all draws, level where chains agree.

        See Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Bayesian Analysis 16.

        Parameters
        ----------
        names
            As for `trace`.
        ax
            Where to draw.

        Returns
        -------
        Axes, or array of Axes
            One a parameter and cluster.
        """
        return chains.ranks(self._fit, names, ax=ax)

    def switching(self, name: str | None = None, *, ax: Any = None) -> Any:
        """Draws of one parameter by the sampler's labels, and after relabelling.

        Parameters
        ----------
        name
            Which parameter, as for `trace`; by default the one that tells clusters apart best.
        ax
            Where to draw.

        Returns
        -------
        array of Axes
            Before and after.
        """
        return chains.switching(self._fit, name, ax=ax)

    # -- does it fit ------------------------------------------------------------------------------

    def residuals(
        self,
        data: Any,
        *,
        response: str | None = None,
        random_state: RandomState = 0,
        ax: Any = None,
    ) -> Any:
        """Quantile residuals by cluster: against the mean, and against normal quantiles.

        A residual is the normal number with the probability that the row's cluster gives to what
        is at most the observed response; of a Gaussian response at a point, (y - mean) / sigma. Of
        a discrete one it is drawn between the probabilities of less and of at most y (Dunn and
        Smyth 1996). Each row's cluster is drawn by its probabilities: if the model holds, residuals
        are standard normal in every cluster then, also where clusters overlap.

        Parameters
        ----------
        data
            As for `Fit.predict`, with the response.
        response
            Which response; by default the first.
        random_state
            For what is drawn.
        ax
            Where to draw.

        Returns
        -------
        array of Axes
        """
        return checks.residuals(
            self._fit, data, response=response, random_state=random_state, ax=ax
        )

    def posterior_predictive(
        self,
        data: Any,
        *,
        response: str | None = None,
        n_samples: int = 50,
        level: float = 0.9,
        random_state: RandomState = 0,
        ax: Any = None,
    ) -> Any:
        """Observed responses and data sets replicated by the model for the same covariates.

        Numbers are shown as smooth densities; counts and levels as bars of the observed rows, with
        the mean and an interval of the replicated ones. Without a response it is a modelled
        column, simulated from the estimates.

        Parameters
        ----------
        data
            As for `Fit.predict`, with the response.
        response
            Which response, or column of a plain mixture; by default the first.
        n_samples
            Replicated data sets.
        level
            Probability of the interval.
        random_state
            For the replicated data sets.
        ax
            Where to draw.

        Returns
        -------
        Axes
        """
        return checks.posterior_predictive(
            self._fit,
            data,
            response=response,
            n_samples=n_samples,
            level=level,
            random_state=random_state,
            ax=ax,
        )

    # -- how it was found -------------------------------------------------------------------------

    def restarts(self, *, ax: Any = None) -> Any:
        """Optima that starts ended in, how many ended in each, and which are degenerate.

        Returns
        -------
        Axes
        """
        return search.restarts(self._fit, ax=ax)

    def history(self, *, ax: Any = None) -> Any:
        """The objective after every iteration; of sampled fits the log likelihood of draws.

        Returns
        -------
        Axes
        """
        return search.history(self._fit, ax=ax)
