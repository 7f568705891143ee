"""The rows that a fit was made from, once more: for what a fit does not keep."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from clusterwise.assembly.assemble import Assembled, assemble
from clusterwise.assembly.build import make_prior
from clusterwise.core.errors import DataError, OptionError
from clusterwise.core.product_posterior import ProductParameters, ProductPosterior
from clusterwise.core.runtime import double_precision
from clusterwise.engines.averages import with_average_weights
from clusterwise.engines.information import Information, observed_information
from clusterwise.engines.relabelling import reorder
from clusterwise.engines.search import evaluate
from clusterwise.frames.table import open_table
from clusterwise.inference.errors import StandardErrors, standard_errors
from clusterwise.model import Model
from clusterwise.record import FitRecord

_SAME = 1e-7


@double_precision
def assemble_again(model: Model, record: FitRecord, data: Any) -> Assembled:
    """The problem that a fit was the answer to.

    Raises
    ------
    DataError
        Where the data are not those of the fit.
    """
    table = open_table(data)
    assembled = assemble(model.specification(table.names), table, np.random.default_rng(0))
    source = assembled.problem.source
    found = f"{source.n_rows} rows"
    if assembled.prepared.layout.columns == record.layout.columns:
        log_likelihood, _ = evaluate(assembled.problem, record.moments)
        log_likelihood -= assembled.prepared.log_scale
        if np.isclose(log_likelihood, record.log_likelihood, rtol=_SAME, atol=_SAME):
            return assembled
        found += f", log likelihood {log_likelihood:.6f}"
    raise DataError(
        f"These are not the data of the fit: {found}, where the fit has {record.n_rows} rows, log "
        f"likelihood {record.log_likelihood:.6f}. Give the rows that were fitted, all of them."
    )


def check_point(record: FitRecord, what: str) -> None:
    """Refuse fits whose estimates are not the maximum of a likelihood."""
    if record.engine != "em":
        raise OptionError(
            f"{what} are of maximum likelihood, and engine={record.engine!r} has a posterior: see "
            "the standard deviations in fit.summary(), or fit with engine='em'."
        )
    chosen = next(row for row in record.restarts if row["chosen"])
    if chosen["degenerate"]:
        raise OptionError(
            f"{what} mean nothing at a degenerate optimum: {chosen['reason']}. Use "
            "prior='default' or fewer components."
        )


def engine_order(record: FitRecord) -> ProductParameters:
    """The point estimates with components as the engine numbered them."""
    return reorder(record.parameters, np.argsort(record.order), axis=0)


def information_of(record: FitRecord, assembled: Assembled) -> Information:
    """Observed information of the data at a fit's estimates."""
    problem = assembled.problem
    return observed_information(
        problem.block, problem.prior, _proper(assembled), problem.source, engine_order(record)
    )


@double_precision
def errors_of(model: Model, record: FitRecord, data: Any) -> StandardErrors:
    """Standard errors from the observed information of the data."""
    check_point(record, "Standard errors")
    assembled = assemble_again(model, record, data)
    problem = assembled.problem
    averaged = partial(with_average_weights, problem.block, problem.source)
    return standard_errors(record.layout, record.order, information_of(record, assembled), averaged)


def _proper(assembled: Assembled) -> ProductPosterior:
    """The default prior, where that of the model is flat."""
    spec, prepared = assembled.spec, assembled.prepared
    if not spec.flat:
        return assembled.problem.prior
    weak = spec._replace(flat=False, priors=dict.fromkeys(spec.priors, "default"))
    sampled = (prepared.sample_rows, prepared.sample_weight)
    return make_prior(weak, prepared.layout, prepared.typical_gram, sampled)
