"""Expressions: the operands of a formula, checked with ``ast`` against a short list.

A checked tree is evaluated by walking it; nothing reaches ``eval``.
"""

from __future__ import annotations

import ast
import keyword
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.special import gammaln

from clusterwise.core.errors import FormulaError

__all__ = ["Factor", "quote", "quote_inside", "read_expression"]

MAX_DEPTH = 50


def _log_factorial(x: np.ndarray) -> np.ndarray:
    # Below zero there is none; who needs counts says so of the column itself.
    return gammaln(np.maximum(x, 0) + 1)


_FUNCTIONS = {
    "I": lambda x: x,
    "abs": np.abs,
    "cos": np.cos,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log10": np.log10,
    "log1p": np.log1p,
    "log2": np.log2,
    "log_factorial": _log_factorial,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tan": np.tan,
}
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_SIGNS = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.USub: "negative",
    ast.UAdd: "I",
}
_STATEFUL = {"bs", "cc", "center", "cr", "cs", "hashed", "lag", "poly", "scale", "standardize"}
_HINTS = {
    "Q": "quote the column's name in backticks",
    "as.factor": "write C(...)",
    "factor": "write C(...)",
    "offset": "pass the column as the offset option",
}
_ALLOWED = ", ".join(sorted([*_FUNCTIONS, "C"], key=str.lower))

# A string or a backtick quotation is one piece, so that brackets inside it do not count.
PIECE = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]+`|[^\W\d]\w*|\S|\s")
_PLAIN_NAME = re.compile(r"[^\W\d][\w.]*")


@dataclass(frozen=True)
class Factor:
    """One operand of a formula.

    Attributes
    ----------
    name : str
        What a column of the design is called after it, as formulaic has it.
    kind : {"column", "expression", "category"}
        A column of the data, arithmetic of columns, or ``C(column)``.
    variables : tuple of str
        Data columns that it needs.
    reference : str, float or None
        The level left out of a reduced coding, if ``C`` names one.
    """

    name: str
    kind: Literal["column", "expression", "category"]
    variables: tuple[str, ...]
    reference: str | float | None = None
    tree: ast.expr | None = field(default=None, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The operand as it is written in a formula."""
        return quote(self.name) if self.kind == "column" else self.name

    def evaluate(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Value of a numeric operand.

        Parameters
        ----------
        columns : mapping of str to ndarray
            The variables as float64 arrays.

        Returns
        -------
        ndarray
            One value a row; infinite or NaN where the arithmetic has none.
        """
        if self.tree is None:
            return columns[self.variables[0]]
        with np.errstate(all="ignore"):
            return np.asarray(_walk(self.tree, columns), dtype=np.float64)

    def as_lists(self) -> list[Any]:
        """A numeric operand as nested lists, for a program that is not Python.

        Returns
        -------
        list
            ``["column", name]``, ``["number", value]``, or the name of an operator or a function
            and its operands.
        """
        return ["column", self.variables[0]] if self.tree is None else _listed(self.tree)


def read_expression(source: str, *, wrap: bool = False) -> Factor:
    """Check one call, such as ``log(x)``, and make it an operand.

    Parameters
    ----------
    source : str
        The call as written in the formula.
    wrap : bool, default False
        Put ``I(...)`` around bare arithmetic.

    Returns
    -------
    Factor
        The operand.

    Raises
    ------
    FormulaError
        If it holds anything that is not allowed.

    Examples
    --------
    >>> read_expression("log(x / 2)").variables
    ('x',)
    """
    originals: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        piece = match.group()
        if piece == "^":
            return "**"
        # Python folds compatible letters into one; a stand-in keeps column names as they are.
        quoted = piece[0] == "`" and len(piece) > 1
        if not quoted and (piece.isascii() or piece[0] in "'\""):
            return piece
        name = f"stand_in_{len(originals)}_"
        originals[name] = piece.strip("`")
        return name

    if "stand_in_" in source:
        raise FormulaError("names may not contain 'stand_in_'")
    try:
        tree = ast.parse(PIECE.sub(stand_in, source).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(
            f"{source!r:.80} is not a valid expression; quote odd names in backticks"
        ) from error
    if wrap and not isinstance(tree, ast.Call):
        tree = ast.Call(func=ast.Name(id="I", ctx=ast.Load()), args=[tree], keywords=[])
    variables: dict[str, None] = {}
    reference, category = None, False
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "C":
        category, reference = True, _check_category(tree)
        _check(tree.args[0], originals, variables, 0)
    else:
        _check(tree, originals, variables, 0)
    if not variables:
        raise FormulaError(f"{source!r:.80} uses no column of the data")
    name = ast.unparse(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = originals.get(node.id, node.id)
    for alias, original in originals.items():
        name = name.replace(alias, quote_inside(original))
    if category:
        return Factor(name, "category", tuple(variables), reference)
    return Factor(name, "expression", tuple(variables), tree=tree)


def quote(name: str) -> str:
    """Write a column's name as a formula needs it."""
    return name if _PLAIN_NAME.fullmatch(name) and ".__" not in name else f"`{name}`"


def quote_inside(name: str) -> str:
    """Write a column's name as a call needs it."""
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"`{name}`"


def _check_category(call: ast.Call) -> str | float | None:
    """Check ``C(column)`` or ``C(column, Treatment(level))`` and return the level."""
    plain = "write C(column) or C(column, Treatment('reference level'))"
    if not call.args or not isinstance(call.args[0], ast.Name) or call.keywords:
        raise FormulaError(f"C(...) takes a column: {plain}")
    if len(call.args) == 1:
        return None
    match call.args[1:]:
        case [
            ast.Call(func=ast.Name(id="Treatment"), args=[ast.Constant(value=level)], keywords=[])
            | ast.Call(
                func=ast.Name(id="Treatment"),
                args=[],
                keywords=[ast.keyword(arg="reference", value=ast.Constant(value=level))],
            )
        ] if isinstance(level, (str, int, float)):
            return level
    raise FormulaError(f"C(...) with other arguments is not supported: {plain}")


def _check(
    node: ast.expr, originals: Mapping[str, str], variables: dict[str, None], depth: int
) -> None:
    """Refuse anything but names, numbers, arithmetic and the listed functions."""
    if depth > MAX_DEPTH:
        raise FormulaError(f"an expression is nested more than {MAX_DEPTH} deep; compute it first")
    match node:
        case ast.Name(id=name):
            variables[originals.get(name, name)] = None
        case ast.Constant(value=bool() | None):
            raise FormulaError(f"{node.value} is not a number")
        case ast.Constant(value=int() | float() as value):
            if not abs(value) < 1e300:
                raise FormulaError("a number is too large")
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            _check(left, originals, variables, depth + 1)
            _check(right, originals, variables, depth + 1)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, originals, variables, depth + 1)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            _check(argument, originals, variables, depth + 1)
        case ast.Call(func=function):
            raise FormulaError(_refuse_call(function))
        case ast.Attribute():
            raise FormulaError("attributes (a dot) are not allowed; quote odd names in backticks")
        case ast.Constant(value=str()):
            raise FormulaError("text is not allowed here; quote column names in backticks")
        case _:
            raise FormulaError(
                "inside a call only columns, numbers, + - * / ** and functions are allowed; "
                "compute the column first"
            )


def _refuse_call(function: ast.expr) -> str:
    """Say why a function cannot be used."""
    if isinstance(function, ast.Attribute) and function.attr in _FUNCTIONS:
        return f"attributes (a dot) are not allowed; write {function.attr}(...)"
    name = ast.unparse(function)[:40]
    if name in _FUNCTIONS:
        return f"{name}(...) takes one argument"
    if name in _STATEFUL:
        return (
            f"{name}(...) depends on the whole data; compute the column first "
            "(columns are standardised internally)"
        )
    if name == "C":
        return "C(...) must stand alone, not inside another expression"
    return f"{name}(...) is not allowed; {_HINTS.get(name, f'functions are {_ALLOWED}')}"


def _walk(node: ast.expr, columns: Mapping[str, np.ndarray]) -> np.ndarray | np.float64:
    """Value of a checked tree."""
    match node:
        case ast.Name(id=name):
            return columns[name]
        case ast.Constant(value=int() | float() as value):
            return np.float64(value)
        case ast.BinOp(op=op, left=left, right=right):
            return _OPERATORS[type(op)](_walk(left, columns), _walk(right, columns))
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](_walk(operand, columns))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return _FUNCTIONS[name](_walk(argument, columns))
    raise FormulaError("an expression changed after it was checked")


def _listed(node: ast.expr) -> list[Any]:
    """A checked tree as nested lists."""
    match node:
        case ast.Name(id=name):
            return ["column", name]
        case ast.Constant(value=int() | float() as value):
            return ["number", float(value)]
        case ast.BinOp(op=op, left=left, right=right):
            return [_SIGNS[type(op)], _listed(left), _listed(right)]
        case ast.UnaryOp(op=op, operand=operand):
            return [_SIGNS[type(op)], _listed(operand)]
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return [name, _listed(argument)]
    raise FormulaError("an expression changed after it was checked")
