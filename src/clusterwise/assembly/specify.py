"""A model's arguments, read and checked: from what a user says to a specification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from clusterwise.assembly.build import Specification
from clusterwise.assembly.layout import ResponseSpec
from clusterwise.assembly.sharing import Shared, check_structure, with_structure
from clusterwise.core.errors import FormulaError, OptionError
from clusterwise.covariates.categorical import CategoricalCovariates
from clusterwise.covariates.density import AbstractDensity
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.expression import quote_inside
from clusterwise.frames.formula import parse
from clusterwise.posteriors.specification import Normal, NormalInverseGamma, NormalInverseWishart
from clusterwise.regression.free import check_free, is_free
from clusterwise.regression.structure import AbstractCoefficients
from clusterwise.responses.registry import resolve_family
from clusterwise.weights.specification import AbstractWeights, resolve_weights

Prior = str | dict[str, Any]

_CONJUGATE = (Normal, NormalInverseGamma, NormalInverseWishart)


def specify(
    formula: str | Sequence[str] | None,
    family: Any,
    n_components: int,
    covariates: str | Sequence[AbstractDensity] | None,
    weights: str | AbstractWeights,
    prior: Prior,
    sample_weight: str | None,
    *,
    offset: str | None,
    trials: str | None,
    shared: Shared,
    coefficients: str | AbstractCoefficients,
    groups: str | None = None,
    names: Sequence[str],
) -> Specification:
    """Resolve the arguments of a `Model`.

    Parameters
    ----------
    formula, family, n_components, covariates, weights, prior, sample_weight
        As for `Model`.
    offset, trials, shared, coefficients, groups
        As for `Model`.
    names
        Columns that "." in a formula stands for.

    Raises
    ------
    OptionError, FormulaError
        Where arguments contradict one another.
    """
    responses = _with_extras(_responses(formula, family, names), offset, trials)
    responses = with_structure(responses, n_components, shared, coefficients)
    densities, automatic = _densities(covariates, names)
    if not responses and not densities:
        raise OptionError(
            "The model has neither a response nor covariates; give a formula, covariates, or both."
        )
    priors, flat = _priors(prior, responses, densities)
    resolved = resolve_weights(weights, n_components)
    check_structure(responses, densities, n_components, resolved, flat=flat)
    return Specification(
        n_components,
        responses,
        densities,
        resolved,
        priors,
        flat,
        sample_weight,
        automatic,
        groups,
    )


def settle(spec: Specification, encoder: Encoder) -> Specification:
    """Give categorical columns of covariates that are only named a density of their own.

    Parameters
    ----------
    spec
        What a model says.
    encoder
        Knows which columns have levels.
    """
    if not spec.automatic:
        return spec
    (density,) = spec.densities
    found, levels = [], []
    for term in parse(density.formula, response=False).terms:
        name = ":".join(factor.text for factor in term)
        alone = len(term) == 1 and term[0].kind == "column"
        if alone and encoder.levels(term[0].variables[0]) is not None:
            levels.append(quote_inside(term[0].variables[0]))
        else:
            found.append(name)
    if not levels:
        return spec
    densities = (*density.over(tuple(found)), *CategoricalCovariates("").over(tuple(levels)))
    prior = spec.priors["covariates:0"]
    kinds = {f"covariates:{j}": prior if d.jointly else "default" for j, d in enumerate(densities)}
    if isinstance(prior, str):
        kinds = dict.fromkeys(kinds, prior)
    return spec._replace(densities=densities, priors={**spec.priors, **kinds}, automatic=False)


def check_prior(prior: Prior) -> None:
    """Refuse what can be no prior of any model."""
    if isinstance(prior, str):
        if prior not in ("default", "flat"):
            raise OptionError(
                f"prior={prior!r} is not known; use 'default', 'flat' or a dictionary of priors "
                "such as {'y': cw.NormalInverseGamma(...)}."
            )
        return
    for key, value in dict(prior).items():
        if is_free(value):
            check_free(key, value)
        elif not isinstance(value, _CONJUGATE) and value != "default":
            raise OptionError(
                f"prior[{key!r}] is {value!r}; use 'default' or "
                f"{', '.join('cw.' + kind.__name__ for kind in _CONJUGATE)}."
            )


def _responses(
    formula: str | Sequence[str] | None, family: Any, names: Sequence[str]
) -> tuple[ResponseSpec, ...]:
    formulas = [formula] if isinstance(formula, str) else list(formula or [])
    families = list(family) if isinstance(family, (list, tuple)) else [family]
    if len(families) == 1:
        families = families * max(len(formulas), 1)
    if formulas and len(families) != len(formulas):
        raise OptionError(
            f"family has {len(families)} entries for {len(formulas)} formulas; give one, or one "
            "for each."
        )
    found = []
    for text, own in zip(formulas, families, strict=False):
        parsed = parse(text, columns=names or None)
        if parsed.response is None:
            raise FormulaError(
                f"The formula {text!r} has no response; write it as 'y ~ {text}', or use "
                "formula=None with covariates for a plain mixture."
            )
        name = parsed.response.strip()
        plain = name[1:-1] if name[0] == name[-1] == "`" else name
        found.append(ResponseSpec(plain, name, parsed.right, resolve_family(own)))
    if len({response.name for response in found}) < len(found):
        raise FormulaError("Each response may have one formula only.")
    return tuple(found)


def _with_extras(
    responses: tuple[ResponseSpec, ...], offset: str | None, trials: str | None
) -> tuple[ResponseSpec, ...]:
    """Give offset and trials to the responses that take them."""
    families = [response.family for response in responses]
    if offset is not None and not any(family.takes_offset for family in families):
        raise OptionError(
            f"offset={offset!r} needs a response with a link, such as family='poisson'; subtract "
            "it from a Gaussian response instead."
        )
    counted = [response for response in responses if response.family.takes_trials]
    if trials is not None and not counted:
        raise OptionError(f"trials={trials!r} needs family='binomial'.")
    if trials is None and counted:
        raise OptionError(
            f"The response {counted[0].name!r} is binomial; say out of how many by trials=, a "
            "column, or use family='bernoulli' for zeros and ones."
        )
    return tuple(
        replace(
            response,
            offset=offset if response.family.takes_offset else None,
            trials=trials if response.family.takes_trials else None,
        )
        for response in responses
    )


def _densities(
    covariates: str | Sequence[AbstractDensity] | None, names: Sequence[str]
) -> tuple[tuple[AbstractDensity, ...], bool]:
    """Densities by block, and whether only columns were named."""
    if covariates is None:
        return (), False
    named = isinstance(covariates, str)
    blocks: list[Any] = [GaussianCovariates(covariates)] if named else list(covariates)
    found: list[AbstractDensity] = []
    seen: set[Any] = set()
    for block in blocks:
        if not isinstance(block, AbstractDensity):
            raise OptionError(
                f"covariates holds {block!r}; use a formula's right side or a list of densities "
                "such as cw.GaussianCovariates and cw.CategoricalCovariates."
            )
        parsed = parse(block.formula, response=False, columns=names or None)
        right = f"0 + {parsed.without_intercept.removeprefix('0 + ')}"
        terms = [term for term in parsed.terms if term]
        if not terms:
            raise FormulaError(f"covariates={block.formula!r} names no column.")
        if seen & set(terms):
            raise FormulaError("A covariate may stand in one block of covariates only.")
        seen |= set(terms)
        if block.jointly:
            found.append(block.with_formula(right))
            continue
        strange = [term for term in terms if [factor.kind for factor in term] != ["column"]]
        if strange:
            raise FormulaError(
                f"covariates={block.formula!r}: {type(block).__name__} takes columns, not "
                f"{':'.join(factor.name for factor in strange[0])!r}; compute it first."
            )
        found += block.over(tuple(quote_inside(term[0].variables[0]) for term in terms))
    return tuple(found), named


def _priors(
    prior: Prior, responses: Sequence[ResponseSpec], densities: Sequence[AbstractDensity]
) -> tuple[dict[str, Any], bool]:
    kinds = {f"response:{i}": r.name for i, r in enumerate(responses)}
    kinds |= {f"covariates:{j}": "covariates" for j in range(len(densities))}
    if isinstance(prior, str):
        return dict.fromkeys(kinds, prior), prior == "flat"
    unknown = set(prior) - set(kinds.values())
    if unknown:
        raise OptionError(
            f"prior names {', '.join(map(repr, sorted(unknown)))}; this model has "
            f"{', '.join(map(repr, dict.fromkeys(kinds.values())))}."
        )
    found = {kind: prior.get(name, "default") for kind, name in kinds.items()}
    others = [f"covariates:{j}" for j, density in enumerate(densities) if not density.jointly]
    if "covariates" in prior and len(others) == len(densities):
        hints = dict.fromkeys(density.prior_hint for density in densities)
        raise OptionError(
            "prior['covariates'] is of Gaussian densities, and this model has none; others say "
            f"theirs by {', '.join(hints)}."
        )
    return found | dict.fromkeys(others, "default"), False
