"""Designs: which product of operands each column of a matrix is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from clusterwise.core.errors import DataError
from clusterwise.frames.columns import Level
from clusterwise.frames.expression import Factor
from clusterwise.frames.formula import Formula
from clusterwise.frames.scan import Variable

__all__ = ["Design", "Piece", "build_design", "factor_levels"]

MAX_COLUMNS = 5_000

Piece = tuple[Factor, int | None]


@dataclass(frozen=True)
class Design:
    """The columns of one matrix.

    Attributes
    ----------
    formula : Formula
        The right side that it was built from.
    columns : tuple of str
        Names of the columns.
    terms : tuple of str
        For each column the term that it belongs to; ``"1"`` is the intercept.
    products : tuple of tuple
        For each column its operands, a categorical one with the position of a level.
    """

    formula: Formula
    columns: tuple[str, ...]
    terms: tuple[str, ...]
    products: tuple[tuple[Piece, ...], ...]

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The operands, each once."""
        return tuple(dict.fromkeys(f for product in self.products for f, _ in product))

    def fill(self, values: Mapping[Factor, np.ndarray], n_rows: int) -> np.ndarray:
        """Compute the matrix.

        Parameters
        ----------
        values : mapping of Factor to ndarray
            Numbers of the numeric operands, level positions of the categorical ones, which are
            negative where they are missing.
        n_rows : int
            Number of rows.

        Returns
        -------
        ndarray
            Rows by columns, float64.
        """
        matrix = np.empty((n_rows, len(self.products)))
        for column, product in zip(matrix.T, self.products, strict=True):
            if not product:
                column[:] = 1.0
            for position, (factor, level) in enumerate(product):
                value = values[factor] if level is None else _indicator(values[factor], level)
                column[:] = value if position == 0 else column * value
        return matrix


def _indicator(codes: np.ndarray, level: int) -> np.ndarray:
    """Whether each code is that of a level; NaN where it is negative, as missing ones are."""
    found = codes == level
    return found if codes.min(initial=0) >= 0 else np.where(codes < 0, np.nan, found)


def build_design(formula: Formula, variables: Mapping[str, Variable]) -> Design:
    """Decide on the columns of a right side.

    Parameters
    ----------
    formula : Formula
        The right side.
    variables : mapping of str to Variable
        What is known of each column that it needs.

    Returns
    -------
    Design
        Treatment coding, with formulaic's rule for which factors lose their first level.

    Raises
    ------
    DataError
        If there are too many columns or two of one name.
    """
    names: list[str] = []
    terms: list[str] = []
    products: list[tuple[Piece, ...]] = []
    for term, parts in _coded_parts(formula, variables):
        text = ":".join(factor.text for factor in term) or "1"
        for part in parts:
            options = [_options(factor, reduced, variables) for factor, reduced in part]
            if len(products) + np.prod([float(len(o)) for o in options]) > MAX_COLUMNS:
                raise DataError(
                    f"the design {formula.right!r:.100} has more than {MAX_COLUMNS:,} columns; "
                    "use categories with fewer levels"
                )
            # The first operand's levels change fastest, as in R.
            for choice in itertools.product(*reversed(options)):
                chosen = choice[::-1]
                names.append(":".join(name for name, _ in chosen) or "Intercept")
                terms.append(text)
                products.append(tuple(piece for _, piece in chosen))
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two columns of the design {formula.right!r:.100} are called {name!r}")
    return Design(formula, tuple(names), tuple(terms), tuple(products))


def factor_levels(factor: Factor, variables: Mapping[str, Variable]) -> Sequence[Level] | None:
    """Levels of an operand, None if it is numeric.

    Parameters
    ----------
    factor : Factor
        The operand.
    variables : mapping of str to Variable
        What is known of each column.

    Returns
    -------
    sequence or None
        The levels in order.
    """
    if factor.kind == "expression":
        return None
    variable = variables[factor.variables[0]]
    return variable.levels if "category" in (factor.kind, variable.kind) else None


def _options(
    factor: Factor, reduced: bool, variables: Mapping[str, Variable]
) -> list[tuple[str, Piece]]:
    """What one operand contributes: itself, or an indicator for each of its levels."""
    known = factor_levels(factor, variables)
    if known is None:
        return [(factor.name, (factor, None))]
    reference = _reference(factor, known)
    prefix = "T." if reduced else ""
    return [
        (f"{factor.name}[{prefix}{level}]", (factor, position))
        for position, level in enumerate(known)
        if not (reduced and position == reference)
    ]


def _reference(factor: Factor, known: Sequence[Level]) -> int:
    if factor.reference is None:
        return 0
    if factor.reference not in known:
        shown = ", ".join(repr(level) for level in known[:20])
        raise DataError(f"{factor.name}: there is no level {factor.reference!r} (only {shown})")
    return known.index(factor.reference)


def _coded_parts(
    formula: Formula, variables: Mapping[str, Variable]
) -> list[tuple[tuple[Factor, ...], list[list[tuple[Factor, bool]]]]]:
    """For each term its parts: operands, and whether each loses a level to keep full rank."""
    from formulaic import ModelSpec, SimpleFormula
    from formulaic.parser.types import Factor as FormulaicFactor
    from formulaic.parser.types import Term

    if not formula.terms:
        return []
    names: dict[Factor, str] = {}
    for term in formula.terms:
        for factor in term:
            names.setdefault(factor, f"v{len(names)}")
    # The rule needs to know which operands are categorical, not their values.
    category, number = pd.Categorical(["a", "b"]), np.zeros(2)
    stand_ins = pd.DataFrame(
        {
            name: number if factor_levels(factor, variables) is None else category
            for factor, name in names.items()
        },
        index=range(2),
    )
    one = FormulaicFactor("1", eval_method="literal")
    terms = [
        Term([FormulaicFactor(names[factor], eval_method="lookup") for factor in term] or [one])
        for term in formula.terms
    ]
    ordered = cast(Any, SimpleFormula)(terms, _ordering="none")
    spec = ModelSpec(formula=ordered, output="numpy")
    factors = {name: factor for factor, name in names.items()}
    structure = cast(Any, spec.get_model_matrix(stand_ins)).model_spec.structure
    return [
        (
            term,
            [[(factors[f.factor.expr], f.reduced) for f in p.factors] for p in row.scoped_terms],
        )
        for term, row in zip(formula.terms, structure, strict=True)
    ]
