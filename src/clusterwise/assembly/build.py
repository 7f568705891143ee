"""From a model's specification and prepared rows to blocks, a prior, and an engine's problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from clusterwise.assembly.grouping import choose_rows, marked
from clusterwise.assembly.layout import Layout, Part, ResponseSpec
from clusterwise.assembly.prepare import SAMPLE_ROWS, Prepared, sample_source
from clusterwise.core.block import AbstractBlock
from clusterwise.core.errors import OptionError
from clusterwise.core.groups import first_rows, group_sizes
from clusterwise.core.incomplete import Incomplete, Patterns
from clusterwise.core.product import Product
from clusterwise.core.product_posterior import ProductPosterior
from clusterwise.covariates.density import AbstractDensity
from clusterwise.engines.averages import average_weights
from clusterwise.engines.degeneracy import Degeneracy
from clusterwise.engines.problem import Problem
from clusterwise.engines.start import StartData
from clusterwise.posteriors.matrix_normal import MatrixNormal
from clusterwise.regression.free import free_prior, is_free
from clusterwise.regression.linear_gaussian import LinearGaussian
from clusterwise.regression.prior import (
    LinearFrame,
    LinearOptions,
    ResponseSample,
    linear_prior,
)
from clusterwise.regression.structure import AbstractCoefficients
from clusterwise.responses.generalised import AbstractGeneralised
from clusterwise.sources.source import Source
from clusterwise.weights.mixing import MixingWeights
from clusterwise.weights.specification import AbstractWeights, Dirichlet, GateDesign


class Specification(NamedTuple):
    """What a model says, resolved."""

    n_components: int
    responses: tuple[ResponseSpec, ...]
    densities: tuple[AbstractDensity, ...]
    weights: AbstractWeights
    priors: Mapping[str, Any]
    flat: bool
    sample_weight: str | None = None
    automatic: bool = False
    """Whether covariates are named only, and their kinds follow from the data."""
    groups: str | None = None

    @property
    def forms(self) -> tuple[Any, ...]:
        """Families of the responses, then densities, in the order of a layout's parts."""
        return (*(response.family for response in self.responses), *self.densities)

    @property
    def coefficients(self) -> tuple[AbstractCoefficients, ...]:
        """How each part's coefficients go together, in the same order."""
        return (
            *(response.coefficients for response in self.responses),
            *(density.pooling for density in self.densities),
        )

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the coefficients' priors whose scale is learned."""
        return tuple(own.name for own in self.coefficients if own.learned)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the parts whose priors are any distributions."""
        names = {f"response:{i}": r.name for i, r in enumerate(self.responses)}
        kinds = [kind for kind, prior in self.priors.items() if is_free(prior)]
        return tuple(names.get(kind, "covariates") for kind in kinds)


def make_block(layout: Layout) -> Product:
    """The model as one block over a layout's columns: weights first, then the parts."""
    parts = tuple(part.form.block(part.columns) for part in layout.parts)
    return _product(layout, _weights(layout), *parts)


def _weights(layout: Layout) -> Any:
    """Block of the mixing weights."""
    gate, unit = layout.gate, _unit(layout)
    return MixingWeights((unit,)) if gate is None else gate.form.block(gate.regressors, unit)


def _unit(layout: Layout) -> int:
    """Column that mixing weights count by: rows, or groups of them."""
    groups = layout.group_columns
    return 0 if groups is None else groups.unit


def _product(layout: Layout, *blocks: Any) -> Product:
    return Product(blocks, layout.n_columns, layout.group_columns)


def to_data_units(layout: Layout, part: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrix, scale and shift that take a part's coefficients to the data's units."""
    p = len(part.regressors)
    matrix = np.diag([1 / layout.scale_of(i) for i in part.regressors])
    shift = np.zeros((p, len(part.responses)))
    if 0 in part.regressors:
        constant = part.regressors.index(0)
        for row, i in enumerate(part.regressors):
            if i:
                matrix[constant, row] = -layout.shift_of(i) / layout.scale_of(i)
        shift[constant] = [layout.shift_of(i) for i in part.responses]
    scale = np.array([layout.scale_of(i) for i in part.responses])
    return matrix, scale, shift


def make_frame(
    layout: Layout,
    part: Part,
    gram: np.ndarray,
    n_components: int,
    sampled: tuple[np.ndarray, np.ndarray] | None = None,
) -> LinearFrame:
    """What a part's prior is made from; `sampled` are some rows (n, columns), and weights (n,)."""
    index = np.asarray((*part.regressors, *part.responses), int)
    units = to_data_units(layout, part)
    return LinearFrame(
        gram[np.ix_(index, index)],
        len(part.regressors),
        *units,
        n_components,
        0 in part.regressors,
        None if sampled is None else response_sample(part, *sampled),
    )


def response_sample(part: Part, rows: np.ndarray, weight: np.ndarray) -> ResponseSample:
    """A response and what goes with it, out of those rows that have it."""
    lost = np.isnan(rows[:, list(part.responses)]).any(axis=1)
    if lost.any():
        rows, weight = rows[~lost], weight[~lost]
    return ResponseSample(
        rows[:, list(part.responses)],
        None if part.trials is None else rows[:, part.trials],
        None if part.offset is None else rows[:, part.offset],
        weight,
    )


def make_prior(
    spec: Specification,
    layout: Layout,
    gram: np.ndarray,
    sampled: tuple[np.ndarray, np.ndarray] | None = None,
) -> ProductPosterior:
    """Priors of all blocks, in standard units."""
    parts: list[Any] = [
        spec.weights.prior(spec.n_components, spec.flat, _gate_design(layout, gram))
    ]
    for part in layout.parts:
        frame = make_frame(layout, part, gram, spec.n_components, sampled)
        what = repr(part.title) if part.is_response else "the covariates"
        own = spec.priors[part.kind]
        given = "default" if is_free(own) else own
        parts.append(part.form.prior(what, frame, given, part.structure))
    return ProductPosterior(tuple(parts))


def _gate_design(layout: Layout, gram: np.ndarray) -> GateDesign | None:
    """What mixing weights depend on."""
    if layout.gate is None:
        return None
    own = np.asarray(layout.gate.regressors, int)
    return GateDesign(gram[np.ix_(own, own)], gram[0, own])


def make_free_prior(
    spec: Specification, layout: Layout, gram: np.ndarray, prior: ProductPosterior
) -> ProductPosterior | None:
    """The prior with the user's distributions in it; None where all of it is conjugate."""
    if not spec.free:
        return None
    weights, *conjugate = prior.parts
    parts: list[Any] = [weights]
    for part, own in zip(layout.parts, conjugate, strict=True):
        given = spec.priors[part.kind]
        if not is_free(given):
            parts.append(own)
            continue
        frame = make_frame(layout, part, gram, spec.n_components)
        name = part.title if part.is_response else "covariates"
        if not isinstance(own, MatrixNormal):
            raise OptionError(
                f"prior[{name!r}]: NumPyro distributions go with densities and Gaussian responses, "
                "whose coefficients are not shared or pooled; give cw.Normal(mean, covariance) for "
                "the coefficients of this response."
            )
        parts.append(free_prior(name, frame, own, given))
    return ProductPosterior(tuple(parts))


def make_problem(spec: Specification, prepared: Prepared) -> Problem:
    """Everything an engine needs."""
    layout = prepared.layout
    block = make_block(layout)
    sampled = (prepared.sample_rows, prepared.sample_weight)
    prior = make_prior(spec, layout, prepared.typical_gram, sampled)
    features = _features(layout)
    conditional = not spec.densities and len(features) > len(spec.responses)
    joint = _joint(spec, prepared, features) if conditional else None
    return Problem(
        block=_over_gaps(block, prepared),
        prior=prior,
        n_components=spec.n_components,
        source=prepared.source,
        sample=prepared.sample,
        start_data=make_start_data(layout, prepared.filled_rows),
        joint=joint,
        degeneracy=_degeneracy(prepared, block)._replace(kinds=prior.component_kinds),
        free_prior=make_free_prior(spec, layout, prepared.typical_gram, prior),
    )


def make_start_data(layout: Layout, rows: np.ndarray) -> StartData:
    """What starts are made of: rows in standard units, none of whose values is missing."""
    regressions = tuple(
        (rows[:, list(part.regressors)], _working(part, rows))
        for part in layout.parts
        if part.is_response and part.regressors
    )
    features = _comparable(layout, rows, _features(layout))
    return StartData(features, regressions, _group_numbers(layout, rows))


def over_rows(
    problem: Problem, layout: Layout, source: Source, rng: np.random.Generator
) -> Problem:
    """A problem over other rows in the same units, none of whose values is missing.

    Priors, and what is taken for a vanishing variance, stay.

    Parameters
    ----------
    problem
        What an engine was given.
    layout
        Of its rows.
    source
        The other rows.
    rng
        Chooses a sample of many rows.
    """
    parts = [source.unpacked(part) for part in range(source.n_blocks)]
    rows = np.concatenate(parts)
    numbers = None if layout.group_columns is None else _group_numbers(layout, rows)
    chosen = choose_rows(len(rows), SAMPLE_ROWS, numbers, rng)
    values, weight = rows[chosen, :-1], rows[chosen, -1]
    marked(layout, values, weight, None if numbers is None else numbers[chosen])
    return problem._replace(
        source=source,
        sample=sample_source(layout, source, values, weight),
        start_data=make_start_data(layout, values),
    )


def _over_gaps(block: Product, prepared: Prepared) -> AbstractBlock:
    """The block over rows as they are packed, some of which may have missing values."""
    if not prepared.packing.numbered:
        return block
    return Incomplete(block, Patterns.of(block, prepared.packing.absent))


def _group_numbers(layout: Layout, rows: np.ndarray) -> np.ndarray:
    """For every row (n,) the number of its group, which without groups is the row's own."""
    first = first_rows(layout.group_columns, rows)
    return np.repeat(np.arange(len(first)), group_sizes(first, len(rows)))


def _working(part: Part, rows: np.ndarray) -> np.ndarray:
    sample = response_sample(part, rows, np.ones(len(rows)))
    working = part.family.working(sample.response, sample.trials)
    return working if sample.offset is None else working - sample.offset[:, None]


def _degeneracy(prepared: Prepared, block: Product) -> Degeneracy:
    parts = prepared.layout.parts
    names = [f"{p.family.spread} of {p.title!r}" if p.family else "covariance" for p in parts]
    widest = max(len(part.regressors) for part in parts)
    return Degeneracy(
        tuple(names),
        tuple(_pooled_variance(prepared, part) for part in parts),
        (widest + 1) / prepared.source.total_weight,
        tuple(_variance_of(part) for part in parts),
        partial(average_weights, block, prepared.sample),
    )


def _pooled_variance(prepared: Prepared, part: Part) -> np.ndarray | None:
    """Residual covariance of all rows, where the likelihood grows as a cluster's vanishes."""
    family = part.family
    if not isinstance(family, AbstractGeneralised):
        frame = make_frame(prepared.layout, part, prepared.typical_gram, 1)
        return frame.pooled_residuals if part.form.scaled else None
    q = len(part.responses)
    if family.variance(np.zeros((1, family.n_constants(q)))) is None:
        return None
    return np.var(_working(part, prepared.filled_rows), axis=0).reshape(1, 1)


def _variance_of(part: Part) -> Callable[[Any], np.ndarray]:
    """What gives the residual covariances (k or 1, q, q) of a part's parameters."""
    form = part.family
    if not isinstance(form, AbstractGeneralised):
        return attrgetter("covariance")
    first = form.n_predictors(len(part.responses)) * len(part.regressors)

    def variance(parameters: Any) -> np.ndarray:
        found = form.variance(np.asarray(parameters.values)[:, first:])
        assert found is not None
        return found[: 1 if form.shared_dispersion else None, None, None]

    return variance


def _features(layout: Layout) -> list[int]:
    """All columns but the constant, each once."""
    found = {i for part in layout.every for i in (*part.regressors, *part.responses) if i}
    return sorted(found)


def _comparable(layout: Layout, rows: np.ndarray, features: list[int]) -> np.ndarray:
    """Features of which none outweighs the others: those on their own scale are divided by it."""
    found = rows[:, features]
    as_it_is = [layout.scale_of(i) == 1 and layout.shift_of(i) == 0 for i in features]
    return found / np.where(as_it_is, np.maximum(found.std(axis=0), 1.0), 1.0)


def _joint(
    spec: Specification, prepared: Prepared, features: list[int]
) -> tuple[AbstractBlock, ProductPosterior]:
    """A Gaussian density of all columns, in the same rows."""
    gram = prepared.typical_gram
    index = np.asarray((0, *features), int)
    size = len(features)
    frame = LinearFrame(
        gram[np.ix_(index, index)] + 1e-6 * np.diag([0.0] + [1.0] * size),
        1,
        np.eye(1),
        np.ones(size),
        np.zeros((1, size)),
        spec.n_components,
    )
    density = linear_prior(frame, LinearOptions("all columns", "full", False, None), "default")
    weights = Dirichlet().prior(spec.n_components, flat=False)
    constant = MixingWeights((_unit(prepared.layout),))
    block = _product(prepared.layout, constant, LinearGaussian((0,), tuple(features)))
    return _over_gaps(block, prepared), ProductPosterior((weights, density))
