"""`clusterwise fit`: from options to a folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterwise.cli.report import print_fit
from clusterwise.core.errors import OptionError
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.model import Model
from clusterwise.output import check_folder, write_fit
from clusterwise.weights.gated import Gated


@dataclass(frozen=True)
class Request:
    """What the options of `clusterwise fit` ask for; `options` go to `Model` as they are."""

    data: Path
    formula: str
    n_components: int
    covariates: str | None
    covariance: str | None
    engine: str
    seed: int
    output: Path | None
    options: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Folder to write."""
        if self.output is not None:
            return self.output
        return Path(f"{self.data.name.split('.')[0] or 'data'}-fit")

    def model(self) -> Model:
        """The model."""
        formula = read_formula(self.formula)
        covariates: Any = self.covariates
        if self.covariance is not None:
            if covariates is None:
                raise OptionError(
                    f"--covariance {self.covariance} needs --covariates, the columns that it is "
                    "the covariance of."
                )
            covariates = [GaussianCovariates(covariates, covariance_type=self.covariance)]
        return Model(formula, n_components=self.n_components, covariates=covariates, **self.options)


def read_weights(weights: str, gate: str | None) -> str | Gated:
    """Weights by their name, or those that depend on columns."""
    if gate is None:
        return weights
    if weights != "dirichlet":
        raise OptionError(
            f"--gate {gate!r} makes weights depend on columns, and --weights {weights} are "
            "constant; give one of them."
        )
    return Gated(gate)


def read_formula(text: str) -> str | list[str] | None:
    """A formula, several that are separated by ";", or None for "none"."""
    if text.strip().lower() == "none":
        return None
    texts = [part.strip() for part in text.split(";") if part.strip()]
    return texts[0] if len(texts) == 1 else texts or None


def run_fit(request: Request, *, report: bool, quiet: bool) -> None:
    """Fit, print, and write.

    Parameters
    ----------
    request : Request
        The options.
    report : bool
        Whether to write report.html.
    quiet : bool
        Whether to print nothing.
    """
    check_folder(request.folder)
    progress = sys.stderr.isatty() and not quiet
    fit = request.model().fit(
        request.data, engine=request.engine, random_state=request.seed, progress=progress
    )
    if not quiet:
        print_fit(fit)
    write_fit(
        fit, request.data, request.folder, seed=request.seed, report=report, progress=progress
    )
    if not quiet:
        first = "report.html, " if report else ""
        print(f"\nWrote {first}fit.json, rows.parquet and model/ to {request.folder}/")
