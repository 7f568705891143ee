"""All steps from a specification and a table to a problem that an engine can run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clusterwise.assembly.build import Specification, make_block, make_problem
from clusterwise.assembly.layout import GATES, RawDesign, raw_design
from clusterwise.assembly.missing import check_gaps, gap_notes
from clusterwise.assembly.prepare import WEIGHT, Prepared, incomplete, prepare
from clusterwise.assembly.specify import settle
from clusterwise.core.errors import DataError, OptionError
from clusterwise.core.rows import BLOCK_ROWS
from clusterwise.engines.problem import Problem
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.table import Table
from clusterwise.regression.free import is_free


class Assembled(NamedTuple):
    """A problem and what is needed to read its answer."""

    spec: Specification
    encoder: Encoder
    design: RawDesign
    prepared: Prepared
    problem: Problem
    n_parameters: int


def designs(spec: Specification) -> dict[str, str]:
    """Right sides of all designs that the encoder needs."""
    found: dict[str, str] = {}
    for i, response in enumerate(spec.responses):
        found[f"regressors:{i}"] = response.right
        found[f"response:{i}"] = f"0 + {response.family.coded(response.expression)}"
        if response.offset is not None:
            found[f"offset:{i}"] = f"0 + {response.offset}"
        if response.trials is not None:
            found[f"trials:{i}"] = f"0 + {response.trials}"
    for j, density in enumerate(spec.densities):
        found[f"covariates:{j}"] = density.formula
    if spec.weights.gating is not None:
        found[GATES] = spec.weights.gating
    if spec.sample_weight is not None:
        found[WEIGHT] = f"0 + {spec.sample_weight}"
    return found


def check_encoder(spec: Specification, encoder: Encoder) -> None:
    """Refuse columns of a kind that their part cannot take."""
    parts = []
    for i, response in enumerate(spec.responses):
        if response.family.categorical:
            continue
        parts.append((f"response:{i}", "The response", response.name))
    for i, response in enumerate(spec.responses):
        for what, text in (("offset", response.offset), ("trials", response.trials)):
            if text is not None:
                parts.append((f"{what}:{i}", what, text))
    for j, density in enumerate(spec.densities):
        if not density.by_level:
            text = " + ".join(encoder.variables(f"covariates:{j}"))
            parts.append((f"covariates:{j}", type(density).__name__, text))
    if spec.sample_weight is not None:
        parts.append((WEIGHT, "sample_weight", spec.sample_weight))
    for design, what, text in parts:
        for variable in encoder.variables(design):
            if encoder.levels(variable) is not None:
                cure = (
                    f"code it as numbers, or use cw.CategoricalCovariates({variable!r})"
                    if design.startswith("covariates")
                    else "convert the column, use it as a regressor in the formula, or choose a "
                    "family that takes levels, such as 'bernoulli'"
                )
                raise DataError(
                    f"{what} {text!r}: column {variable!r} is categorical (text), but numbers are "
                    f"needed there; {cure}."
                )
        single = design.startswith(("response", "offset", "trials", WEIGHT))
        if single and len(encoder.columns(design)) != 1:
            raise DataError(f"{what} {text!r} must be one column or expression.")


def _check_gates(spec: Specification, encoder: Encoder) -> None:
    """Refuse weights that depend on what the model itself draws: that would be no density."""
    if spec.weights.gating is None:
        return
    gating = encoder.variables(GATES)
    for design in encoder.designs:
        if not design.startswith(("covariates:", "response:")):
            continue
        both = [name for name in encoder.variables(design) if name in gating]
        if both:
            what = "the response" if design.startswith("response") else "covariates"
            raise OptionError(
                f"weights={spec.weights!r}: column {both[0]!r} is {what} of the model too, which "
                "draws it given the cluster; weights may depend on columns that are given only. "
                f"Leave {both[0]!r} out of the weights' formula or out of {what}."
            )


def _check_stray_text(table: Table, encoder: Encoder) -> None:
    """Refuse text that has strayed into a column of numbers, which makes it categorical."""
    for design in encoder.designs:
        for variable in encoder.variables(design):
            texts = [v for v in encoder.levels(variable) or () if isinstance(v, str)]
            stray = {text for text in texts if not _is_number(text)}
            if not stray or 2 * len(stray) > len(texts):
                continue
            rows, first = [], 0
            for frame in table.batches((variable,), BLOCK_ROWS):
                values = frame[variable].astype(str).isin(sorted(stray)).to_numpy()
                rows += [first + int(i) for i in np.flatnonzero(values)]
                first += len(frame)
            raise DataError(
                f"column {variable!r} holds numbers but for {len(rows)} rows of text (from 0: "
                f"{', '.join(map(str, rows[:5]))}), such as {min(stray)!r}; correct them, or write "
                f"C({variable}) after recoding if these are categories"
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def count_parameters(spec: Specification, prepared: Prepared) -> int:
    """Free parameters: weights, identified coefficients, dispersions."""
    k = spec.n_components
    gate = prepared.layout.gate
    total = spec.weights.n_parameters(k) * (1 if gate is None else len(gate.regressors))
    for part in prepared.layout.parts:
        own = part.form.n_identified(len(part.responses))
        groups = [max(one, default=0) + 1 for _, one in part.structure.shared]
        total += own * (k * (len(part.regressors) - len(groups)) + sum(groups))
        total += part.form.n_dispersion(k, len(part.responses))
    return total


def _encoder(table: Table, spec: Specification) -> Encoder:
    texts = designs(spec)
    return Encoder.fit(table, texts, incomplete=incomplete(texts))


def assemble(spec: Specification, table: Table, rng: np.random.Generator) -> Assembled:
    """Encode the table, standardise it, and build blocks and priors over it."""
    encoder = _encoder(table, spec)
    settled = settle(spec, encoder)
    if settled is not spec:
        spec = settled
        encoder = _encoder(table, spec)
    check_encoder(spec, encoder)
    _check_gates(spec, encoder)
    _check_stray_text(table, encoder)
    design = raw_design(encoder, list(spec.responses), [d.by_level for d in spec.densities])
    prepared = prepare(
        table,
        encoder,
        design,
        n_components=spec.n_components,
        common_scale={
            f"covariates:{j}": density.common_scale for j, density in enumerate(spec.densities)
        },
        keep_aliased={
            kind: not isinstance(prior, str) and not is_free(prior)
            for kind, prior in spec.priors.items()
        },
        forms=spec.forms,
        weights=spec.weights,
        groups=spec.groups,
        coefficients=spec.coefficients,
        rng=rng,
    )
    layout, gaps = prepared.layout, prepared.gaps
    check_gaps(layout, make_block(layout).blocks, encoder, design, gaps)
    notes = (*gap_notes(encoder, prepared.silent), *prepared.notes)
    prepared = prepared._replace(notes=notes)
    n_parameters = count_parameters(spec, prepared)
    # The truncation of a process is no claim that so many clusters exist.
    claimed = n_parameters
    if spec.weights.truncated and not spec.flat:
        claimed = count_parameters(spec._replace(n_components=1), prepared)
    if encoder.n_rows < claimed:
        raise OptionError(
            f"The data have {encoder.n_rows} rows, fewer than the model's {claimed} parameters; "
            f"ask for fewer clusters than n_components={spec.n_components} or fewer terms."
        )
    return Assembled(spec, encoder, design, prepared, make_problem(spec, prepared), n_parameters)
