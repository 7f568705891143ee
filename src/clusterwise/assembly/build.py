"""From a model's specification and prepared rows to blocks, a prior, and an engine's problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from clusterwise.assembly.layout import Layout, Part, ResponseSpec
from clusterwise.assembly.prepare import Prepared
from clusterwise.core.product import ProductParameters, ProductPosterior, QuadraticProduct
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.engines.problem import Problem
from clusterwise.engines.start import StartData
from clusterwise.regression.linear_gaussian import LinearGaussian
from clusterwise.regression.prior import LinearFrame, LinearOptions, linear_prior
from clusterwise.weights.mixing import MixingWeights
from clusterwise.weights.specification import AbstractWeights, Dirichlet

_COLLAPSED = 1e-7


class Specification(NamedTuple):
    """What a model says, resolved."""

    n_components: int
    responses: tuple[ResponseSpec, ...]
    densities: tuple[GaussianCovariates, ...]
    weights: AbstractWeights
    priors: Mapping[str, Any]
    flat: bool
    sample_weight: str | None = None


def make_block(layout: Layout) -> QuadraticProduct:
    """The model as one block over a layout's columns: weights first, then the parts."""
    parts = tuple(LinearGaussian(part.regressors, part.responses) for part in layout.parts)
    return QuadraticProduct((MixingWeights(), *parts), layout.n_columns)


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


def make_prior(spec: Specification, layout: Layout, gram: np.ndarray) -> ProductPosterior:
    """Priors of all blocks, in standard units."""
    parts: list[Any] = [spec.weights.prior(spec.n_components, spec.flat)]
    owners = (*(r.family for r in spec.responses), *spec.densities)
    for part, owner in zip(layout.parts, owners, strict=True):
        index = np.asarray((*part.regressors, *part.responses), int)
        matrix, scale, shift = to_data_units(layout, part)
        frame = LinearFrame(
            gram[np.ix_(index, index)], len(part.regressors), matrix, scale, shift,
            spec.n_components,
        )  # fmt: skip
        what = "the covariates" if part.kind.startswith("covariates") else repr(part.names[0])
        parts.append(owner.prior(what, frame, spec.priors[part.kind]))
    return ProductPosterior(tuple(parts))


def make_problem(spec: Specification, prepared: Prepared) -> Problem:
    """Everything an engine needs."""
    layout = prepared.layout
    block = make_block(layout)
    prior = make_prior(spec, layout, prepared.typical_gram)
    rows = prepared.sample_rows
    regressions = tuple(
        (rows[:, np.asarray(part.regressors, int)], rows[:, np.asarray(part.responses, int)])
        for part in layout.parts
        if part.kind.startswith("response") and part.regressors
    )
    features = _features(layout)
    conditional = not spec.densities and len(features) > len(spec.responses)
    joint = _joint(spec, layout, features, prepared.typical_gram) if conditional else None
    return Problem(
        block=block,
        prior=prior,
        proper=not spec.flat,
        n_components=spec.n_components,
        source=prepared.source,
        sample=prepared.sample,
        start_data=StartData(rows[:, features], regressions),
        joint=joint,
        spuriousness=_spuriousness,
        collapsed=lambda parameters: _collapsed(parameters, layout),
        smallest=lambda parameters: _smallest(parameters, layout),
    )


def _features(layout: Layout) -> list[int]:
    """All columns but the constant, each once."""
    found = {i for part in layout.parts for i in (*part.regressors, *part.responses) if i}
    return sorted(found)


def _joint(
    spec: Specification, layout: Layout, features: list[int], gram: np.ndarray
) -> tuple[QuadraticProduct, ProductPosterior]:
    """A Gaussian density of all columns, in the same rows."""
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
    block = QuadraticProduct(
        (MixingWeights(), LinearGaussian((0,), tuple(features))), layout.n_columns
    )
    return block, ProductPosterior((weights, density))


def _ratios(parameters: ProductParameters) -> list[tuple[int, np.ndarray]]:
    """Variances relative to the pooled ones, (k, q) ascending, where clusters have their own."""
    weights = np.exp(parameters.parts[0].log_weights)
    found = []
    for i, part in enumerate(parameters.parts[1:]):
        covariance = part.covariance
        if covariance.shape[0] == weights.size:
            pooled = np.einsum("k,kij->ij", weights, covariance)
            whitening = np.linalg.inv(np.linalg.cholesky(pooled))
            found.append((i, np.linalg.eigvalsh(whitening @ covariance @ whitening.T)))
    return found


def _spuriousness(parameters: ProductParameters) -> float:
    """Sum over clusters of the trace of the pooled covariance in units of their own."""
    with np.errstate(divide="ignore"):
        return sum(float((1 / np.maximum(ratio, 0)).sum()) for _, ratio in _ratios(parameters))


def _name(layout: Layout, i: int) -> str:
    part = layout.parts[i]
    return f"sigma of {part.names[0]!r}" if part.kind.startswith("response") else "covariance"


def _collapsed(parameters: ProductParameters, layout: Layout) -> tuple[str, ...]:
    """Clusters whose variance has gone to zero next to the others'."""
    return tuple(
        f"the {_name(layout, i)} of component {k} has collapsed to zero"
        for i, ratio in _ratios(parameters)
        for k in np.flatnonzero(ratio[:, 0] < _COLLAPSED)
    )


def _smallest(parameters: ProductParameters, layout: Layout) -> tuple[str, ...]:
    """The cluster whose variance is smallest relative to the pooled one."""
    ratios = _ratios(parameters)
    if not ratios:
        return ()
    i, ratio = min(ratios, key=lambda pair: pair[1].min())
    k = int(ratio[:, 0].argmin())
    factor = float(1 / np.sqrt(ratio[k, 0]))
    return (
        f"its likelihood comes from component {k}, whose {_name(layout, i)} is "
        f"{factor:.0f} times smaller than the pooled one",
    )
