"""The commands and their options; what they do is imported when one of them runs."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from clusterwise.core.errors import ClusterwiseError, ClusterwiseWarning

app = typer.Typer(
    name="clusterwise",
    help="Mixtures of regressions: clusters that nobody labelled, each with its own regression.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Kind(StrEnum):
    """What to predict."""

    mean = "mean"
    quantile = "quantile"
    interval = "interval"
    density = "density"


Data = Annotated[Path, typer.Argument(help="CSV, Parquet or Arrow file.", metavar="DATA")]
Folder = Annotated[Path, typer.Argument(help="Folder that `fit` wrote.", metavar="DIR")]
Seed = Annotated[int, typer.Option(help="Seed; the same seed gives the same answer.", min=0)]
Formula = Annotated[
    str,
    typer.Argument(
        help="'y ~ x1 + x2'; several, separated by ';', for several responses; 'none' for a "
        "plain mixture.",
        metavar="FORMULA",
    ),
]
Weights = Annotated[str, typer.Option(help="dirichlet, dirichlet_process or pitman_yor.")]
Gate = Annotated[
    str | None,
    typer.Option(
        help="Columns that the weights depend on, by a multinomial logit: 'w1 + w2'.",
        metavar="COLUMNS",
    ),
]
Shared = Annotated[
    str | None, typer.Option(help='Terms with one coefficient for all clusters: "x2".')
]
Coefficients = Annotated[
    str, typer.Option(help="Prior of the others: independent, hierarchical, ridge or horseshoe.")
]
Groups = Annotated[str | None, typer.Option(help="Column whose rows of one value share a cluster.")]
Offset = Annotated[
    str | None, typer.Option(help='Column or expression to add to the predictor: "log(hours)".')
]
Trials = Annotated[str | None, typer.Option(help="Column of binomial trials.")]
SampleWeight = Annotated[str | None, typer.Option(help="Column with a weight of each row.")]
Prior = Annotated[
    str, typer.Option(help="default, or flat for maximum likelihood (with --engine em).")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output file.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from clusterwise.core.version import __version__

        typer.echo(f"clusterwise {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


@app.command()
def fit(
    context: typer.Context,
    data: Data,
    formula: Formula,
    components: Annotated[
        int, typer.Option("-k", "--components", help="Number of clusters.", metavar="K")
    ] = 2,
    covariates: Annotated[
        str | None,
        typer.Option(help="Columns whose density is modelled too: 'x1 + x2'.", metavar="COLUMNS"),
    ] = None,
    covariance: Annotated[
        str | None,
        typer.Option(help="Of the covariates: full, diag, spherical or tied.", metavar="TYPE"),
    ] = None,
    family: Annotated[
        str, typer.Option(help="gaussian, poisson, bernoulli, binomial, ...")
    ] = "gaussian",
    weights: Weights = "dirichlet",
    gate: Gate = None,
    shared: Shared = None,
    coefficients: Coefficients = "independent",
    groups: Groups = None,
    offset: Offset = None,
    trials: Trials = None,
    sample_weight: SampleWeight = None,
    engine: Annotated[str, typer.Option(help="em, vi, svi, memoized, gibbs or nuts.")] = "vi",
    prior: Prior = "default",
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write; default: the name of DATA and '-fit'.", metavar="DIR"),
    ] = None,
    report: Annotated[
        bool, typer.Option(help="Whether to write report.html, a page for people.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Fit a mixture of regressions to a file."""
    with _reporting(context):
        from clusterwise.cli.fitting import Request, read_weights, run_fit

        request = Request(
            data=data,
            formula=formula,
            n_components=components,
            covariates=covariates,
            covariance=covariance,
            engine=engine,
            seed=seed,
            output=output,
            options={
                "family": family,
                "weights": read_weights(weights, gate),
                "shared": shared,
                "coefficients": coefficients,
                "groups": groups,
                "offset": offset,
                "trials": trials,
                "sample_weight": sample_weight,
                "prior": prior,
            },
        )
        run_fit(request, report=report, quiet=quiet)


@app.command()
def select(
    context: typer.Context,
    data: Data,
    formula: Formula,
    components: Annotated[
        str,
        typer.Option(
            "-k", "--components", help="Numbers of clusters: 1:8, or 2,4,6.", metavar="RANGE"
        ),
    ] = "1:6",
    criterion: Annotated[
        str,
        typer.Option(
            help="bic, icl, aic, cv, loo, elbo or lrt; several, by commas, the first decides."
        ),
    ] = "bic",
    covariates: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns whose density is modelled too; repeat to compare, 'none' for none.",
            metavar="COLUMNS",
        ),
    ] = None,
    covariance: Annotated[
        list[str] | None,
        typer.Option(help="full, diag, spherical or tied; repeat to compare.", metavar="TYPE"),
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="gaussian, poisson, ...; repeat to compare.")
    ] = None,
    weights: Weights = "dirichlet",
    gate: Gate = None,
    shared: Shared = None,
    coefficients: Coefficients = "independent",
    groups: Groups = None,
    offset: Offset = None,
    trials: Trials = None,
    sample_weight: SampleWeight = None,
    folds: Annotated[int, typer.Option(help="Folds of --criterion cv.")] = 5,
    replicates: Annotated[
        int, typer.Option(help="Data sets that each test of --criterion lrt simulates.")
    ] = 99,
    engine: Annotated[
        str | None, typer.Option(help="Default: what the criterion needs, em with few starts.")
    ] = None,
    prior: Prior = "default",
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write, and to go on from; default: the name of DATA and '-select'.",
            metavar="DIR",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compare numbers of clusters and models, and recommend one."""
    with _reporting(context):
        from clusterwise.cli.fitting import read_weights
        from clusterwise.cli.selecting import Comparison, run_select

        comparison = Comparison(
            data=data,
            formula=formula,
            components=components,
            criterion=criterion,
            covariates=covariates or [],
            covariance=covariance or [],
            family=family or [],
            folds=folds,
            replicates=replicates,
            engine=engine,
            seed=seed,
            output=output,
            options={
                "weights": read_weights(weights, gate),
                "shared": shared,
                "coefficients": coefficients,
                "groups": groups,
                "offset": offset,
                "trials": trials,
                "sample_weight": sample_weight,
                "prior": prior,
            },
        )
        run_select(comparison, quiet=quiet)


@app.command()
def predict(
    context: typer.Context,
    folder: Folder,
    data: Annotated[
        Path, typer.Argument(help="CSV, Parquet or Arrow file of new rows.", metavar="NEWDATA")
    ],
    kind: Annotated[Kind, typer.Option(help="What to predict.")] = Kind.mean,
    q: Annotated[
        list[float] | None,
        typer.Option(help="Level for --kind quantile; may be repeated.", metavar="LEVEL"),
    ] = None,
    level: Annotated[float, typer.Option(help="Probability of --kind interval.")] = 0.9,
    response: Annotated[
        str | None, typer.Option(help="Which response, where there are several.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="CSV or Parquet file; without it the first rows are shown."),
    ] = None,
    force: Force = False,
) -> None:
    """Predict the response of new rows, and the probability of each cluster without it."""
    with _reporting(context):
        from clusterwise.cli.predicting import Question, run_predict

        question = Question(kind.value, tuple(q or (0.05, 0.5, 0.95)), level, response)
        run_predict(folder, data, question, output, force=force)


@app.command()
def simulate(
    context: typer.Context,
    folder: Folder,
    output: Annotated[Path, typer.Option(help="CSV or Parquet file to write.")],
    n: Annotated[
        int | None, typer.Option("-n", "--rows", help="Rows; default: as many as --data has.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="File with regressors that the fit has no density of."),
    ] = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Simulate rows from a fit."""
    with _reporting(context):
        from clusterwise.cli.predicting import run_simulate

        run_simulate(folder, n, seed, data, output, force=force)


@app.command()
def report(
    context: typer.Context,
    folder: Folder,
    data: Annotated[
        Path | None,
        typer.Argument(help="The rows that were fitted, for plots of them.", metavar="DATA"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="HTML file; default: report.html in DIR.")
    ] = None,
) -> None:
    """Write a fit as one HTML page."""
    with _reporting(context):
        from clusterwise.cli.comparing import run_report

        run_report(folder, data, output)


@app.command()
def compare(
    context: typer.Context,
    folders: Annotated[
        list[Path], typer.Argument(help="Folders that `fit` wrote.", metavar="DIR...")
    ],
) -> None:
    """Print fits side by side."""
    with _reporting(context):
        from clusterwise.cli.comparing import run_compare

        run_compare(folders)


@app.command()
def demo(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Folder to write.", metavar="DIR")] = Path(
        "demo-output"
    ),
) -> None:
    """Fit four data sets, say what was found, and write the fits and their plots."""
    with _reporting(context):
        from clusterwise.demo import run_demo

        run_demo(output, say=typer.echo, progress=sys.stderr.isatty())


@contextmanager
def _reporting(context: typer.Context) -> Iterator[None]:
    """Turn errors into one line on standard error and an exit status."""
    if context.obj == "program":
        _keep_compiled_programs()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ClusterwiseWarning)
        try:
            yield
        except ClusterwiseError as error:
            _fail(str(error))
        except BrokenPipeError:
            raise
        except OSError as error:
            place = f" {error.filename!r}" if error.filename else ""
            _fail(f"cannot read or write{place}: {error.strerror or error}")
        except MemoryError:
            _fail("there is not enough memory")
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None


def _fail(message: str) -> None:
    typer.echo(f"error: {_one_line(message)}", err=True)
    raise typer.Exit(2) from None


def _show_warning(message: Warning | str, *_: object) -> None:
    typer.echo(f"warning: {_one_line(str(message))}", err=True)


def _one_line(message: str) -> str:
    """A message without its line breaks, and without the caret under a formula."""
    lines = [line.strip() for line in message.splitlines()]
    return ": ".join(line for line in lines if line.strip("^"))


def _keep_compiled_programs() -> None:
    """Let JAX keep what it compiles in the user's cache folder: most of a command's time."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "clusterwise" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def main() -> None:
    """Run the command line as a program of its own."""
    app(obj="program")
