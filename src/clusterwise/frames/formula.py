"""Formulas: a small, closed language, read without ever running a stranger's code.

The text is cut into operands and operators (``tokens``), every operand is checked with ``ast``
(``expression``), and formulaic does the algebra on stand-in names, so that it never sees a
piece of the text itself.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from clusterwise.core.errors import FormulaError
from clusterwise.frames.expression import Factor
from clusterwise.frames.tokens import Token, check_order, fail, merge_powers, tokenize

__all__ = ["Formula", "parse"]

MAX_LENGTH = 10_000
MAX_TERMS = 1_000
MAX_PRODUCTS = 20_000
MAX_DEGREE = 8


@dataclass(frozen=True)
class Formula:
    """A formula that has been read and checked.

    Attributes
    ----------
    text : str
        The formula as given.
    response : str or None
        The left side, for example ``"y"`` or ``"log(y)"``.
    right : str
        The right side written out term by term: ``"x1 + x1:x2"``, ``"0 + x1"``, ``"1"``.
    variables : tuple of str
        Data columns that both sides need, in order of appearance.
    terms : tuple of tuple of Factor
        The right side's terms, lower orders first; the empty tuple is the intercept.

    Examples
    --------
    >>> parse("log(y) ~ a * b - 1").right
    '0 + a + b + a:b'
    """

    text: str
    response: str | None
    right: str
    variables: tuple[str, ...]
    terms: tuple[tuple[Factor, ...], ...] = field(repr=False)

    @property
    def intercept(self) -> bool:
        """Whether the right side has an intercept."""
        return () in self.terms

    @property
    def without_intercept(self) -> str:
        """The right side with its intercept taken out."""
        return _write([term for term in self.terms if term])


def parse(
    text: str, *, response: bool | None = None, columns: Sequence[str] | None = None
) -> Formula:
    """Read a formula.

    Operators are ``+ - : * / **`` (``^`` is ``**``), parentheses, ``0``, ``1`` and ``-1`` for
    the intercept, and backticks around unusual column names. Functions are abs, cos, exp,
    expm1, log, log10, log1p, log2, log_factorial, sin, sqrt, tan, ``I(...)`` for arithmetic and
    ``C(...)`` for a categorical column, with ``C(g, Treatment("b"))`` to choose the reference
    level.

    A power of one operand is arithmetic: ``x^2`` means ``I(x**2)`` (in R it would be ``x``).
    A power of a sum keeps its meaning: ``(a + b)^2`` is ``a + b + a:b``.

    Parameters
    ----------
    text : str
        A formula such as ``"y ~ x1 + log(x2)"`` or a right side such as ``"x1 + x2"``.
    response : bool, optional
        True asks for a left side, False refuses one; None takes either.
    columns : sequence of str, optional
        Names of the table's columns, which ``.`` stands for (without those on the left side).

    Returns
    -------
    Formula
        The checked formula.

    Raises
    ------
    FormulaError
        If the formula cannot be read or uses anything else.

    Examples
    --------
    >>> parse("y ~ x^2 + g").right
    'I(x ** 2) + g'
    """
    if not isinstance(text, str):
        raise FormulaError(f"a formula is text such as 'y ~ x1 + x2', not {text!r:.80}")
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"the formula is longer than {MAX_LENGTH:,} characters")
    tokens = merge_powers(text, tokenize(text))
    tildes = [i for i, token in enumerate(tokens) if token.text == "~" and token.kind == "op"]
    if len(tildes) > 1:
        fail(text, tokens[tildes[1]].start, "a formula has at most one '~'")
    split = tildes[0] if tildes else -1
    left = _response(text, tokens[: max(split, 0)])
    if response is True and left is None:
        raise FormulaError(f"the formula {text!r} has no response; write 'y ~ {text.strip(' ~')}'")
    if response is False and left is not None:
        raise FormulaError(f"the formula {text!r} must have no response; leave out '{left.text} ~'")

    tokens = _expand_dot(text, tokens[split + 1 :], columns, left.variables if left else ())
    check_order(text, tokens)
    terms = _terms(text, tokens)
    used = {name for term in terms for factor in term for name in factor.variables}
    shown = [name for token in tokens if token.factor for name in token.factor.variables]
    variables = [*(left.variables if left else ()), *(name for name in shown if name in used)]
    return Formula(
        text=text,
        response=left.text if left else None,
        right=_write(terms),
        variables=tuple(dict.fromkeys(variables)),
        terms=terms,
    )


def _write(terms: Sequence[tuple[Factor, ...]]) -> str:
    """Write terms as a right side that reads back as the same terms."""
    written = [":".join(factor.text for factor in term) for term in terms if term]
    if () not in terms:
        return " + ".join(["0", *written])
    return " + ".join(written) or "1"


def _response(text: str, tokens: list[Token]) -> Factor | None:
    if not tokens:
        return None
    if len(tokens) > 1 or tokens[0].factor is None:
        fail(
            text,
            tokens[min(1, len(tokens) - 1)].start,
            "the left side is one column or one expression, such as y, log(y) or I(a - b); "
            "several responses are a list of formulas",
        )
    return tokens[0].factor


def _expand_dot(
    text: str, tokens: list[Token], columns: Sequence[str] | None, left: tuple[str, ...]
) -> list[Token]:
    """Replace ``.`` by the sum of all columns that are not on the left side."""
    expanded: list[Token] = []
    for token in tokens:
        if token.kind != "dot":
            expanded.append(token)
            continue
        names = [name for name in columns or () if name not in left]
        if any("`" in name or not name for name in names):
            fail(text, token.start, "a column's name is empty or holds a backtick; rename it")
        if not names:
            fail(text, token.start, "'.' (all other columns) is not known here; name the columns")
        if len(names) > MAX_TERMS:
            fail(text, token.start, f"'.' stands for more than {MAX_TERMS:,} columns; name some")
        group = [Token("op", "(", token.start)]
        for name in names:
            operand = Token("operand", f"`{name}`", token.start, Factor(name, "column", (name,)))
            group += [operand, Token("op", "+", token.start)]
        expanded += [*group[:-1], Token("op", ")", token.start)]
    return expanded


def _terms(text: str, tokens: list[Token]) -> tuple[tuple[Factor, ...], ...]:
    """Expand the right side with formulaic, which sees stand-in names only."""
    from formulaic import Formula as FormulaicFormula
    from formulaic.errors import FormulaicError

    names: dict[Factor, str] = {}
    pieces = []
    for token in tokens:
        if token.factor is not None:
            pieces.append(names.setdefault(token.factor, f"v{len(names)}"))
        else:
            pieces.append(token.text)
    factors = {name: factor for factor, name in names.items()}
    try:
        _check_size(text, " ".join(pieces))
        expanded = list(cast(Any, FormulaicFormula)(" ".join(pieces)))
    except (FormulaicError, RecursionError) as error:
        raise FormulaError(f"cannot expand the formula {text!r:.200}") from error
    terms = tuple(
        tuple(factors[factor.expr] for factor in term.factors if factor.expr in factors)
        for term in expanded
    )
    if len(terms) > MAX_TERMS:
        raise FormulaError(f"the formula {text!r:.200} has more than {MAX_TERMS:,} terms")
    if any(len(term) > MAX_DEGREE for term in terms):
        raise FormulaError(f"a term of {text!r:.200} multiplies more than {MAX_DEGREE} operands")
    return terms


def _check_size(text: str, algebra: str) -> None:
    """Bound the number of products before any is formed."""
    from formulaic.parser import DefaultFormulaParser
    from formulaic.parser.types import ASTNode

    nodes: list[Any] = [DefaultFormulaParser().get_ast(algebra)]
    for node in nodes:
        if isinstance(node, ASTNode):
            nodes.extend(node.args)
    sizes: dict[int, int] = {}
    for node in reversed(nodes):
        size = 1
        if isinstance(node, ASTNode):
            inner = [sizes[id(argument)] for argument in node.args]
            symbol = node.operator.symbol
            if symbol in ("**", "^"):
                size = max(inner[0], 1) ** int(str(list(node.args)[1]))
            elif symbol in ("*", ":"):
                size = functools.reduce(operator.mul, inner) + (symbol == "*") * sum(inner)
            else:
                size = sum(inner)
        if size > MAX_PRODUCTS:
            raise FormulaError(
                f"the formula {text!r:.200} multiplies out to more than {MAX_PRODUCTS:,} products"
            )
        sizes[id(node)] = size
