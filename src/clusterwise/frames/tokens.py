"""Tokens of a formula: its operands and operators, cut apart and checked for order."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NoReturn

from clusterwise.core.errors import FormulaError
from clusterwise.frames.expression import PIECE, Factor, quote_inside, read_expression

__all__ = ["Token", "check_order", "fail", "merge_powers", "tokenize"]

_TOKEN = re.compile(
    r"\s*(?:`(?P<quoted>[^`]+)`"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"
    r"|(?P<name>[^\W\d][\w.]*)"
    r"|(?P<dot>\.(?![\w.]))"
    r"|(?P<brace>\{)"
    r"|(?P<operator>\*\*|[-+*/:^~()]))"
)
_BLANKS = dict.fromkeys(range(32), " ")


@dataclass(frozen=True)
class Token:
    """An operand (``factor``), a number, a dot or an operator, and where it stands."""

    kind: str
    text: str
    start: int
    factor: Factor | None = None


def fail(text: str, place: int, reason: str) -> NoReturn:
    """Raise an error that shows the place in the formula."""
    start = max(place - 40, 0)
    excerpt = text[start : place + 40].translate(_BLANKS)
    arrow = " " * (place - start) + "^"
    raise FormulaError(f"cannot read the formula: {reason}\n  {excerpt}\n  {arrow}")


def tokenize(text: str) -> list[Token]:
    """Cut a formula into operands, numbers and operators."""
    tokens, place, end = [], 0, len(text.rstrip())
    if not end:
        raise FormulaError("the formula is empty; write for example 'y ~ x1 + x2'")
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            place += len(text[place:]) - len(text[place:].lstrip())
            fail(text, place, _unreadable(text, place))
        kind, start, place = match.lastgroup, match.start(match.lastgroup), match.end()
        value = match.group(kind)
        if kind == "quoted":
            factor = Factor(value, "column", (value,))
            # The backticks stay on, so that a column called "+" is not taken for an operator.
            tokens.append(Token("operand", f"`{value}`", start - 1, factor))
        elif kind == "brace":
            place = _closing(text, start)
            factor = _operand(text, start, text[start + 1 : place - 1], wrap=True)
            tokens.append(Token("operand", factor.name, start, factor))
        elif kind == "name" and text[place:].lstrip().startswith("("):
            place = _closing(text, text.index("(", place))
            factor = _operand(text, start, text[start:place])
            tokens.append(Token("operand", factor.name, start, factor))
        elif kind == "name":
            if ".__" in value:
                fail(text, start, "attributes are not allowed; quote odd names in backticks")
            tokens.append(Token("operand", value, start, Factor(value, "column", (value,))))
        else:
            tokens.append(Token("op" if kind == "operator" else kind, value, start))
    return tokens


def _operand(text: str, place: int, source: str, *, wrap: bool = False) -> Factor:
    """Read an expression, and show its place if it is refused."""
    try:
        return read_expression(source, wrap=wrap)
    except FormulaError as error:
        fail(text, place, str(error))


def _unreadable(text: str, place: int) -> str:
    """Say why no operand or operator starts here."""
    sign = text[place]
    if sign == "|":
        return "'|' is not supported; for repeated rows of one unit use the groups option"
    if sign in "'\"":
        return "text constants are not allowed here; quote column names in backticks"
    if sign == "`":
        return "a backtick is not closed or holds no name"
    return f"{sign!r} is not allowed; operators are + - : * / ** ( ) ~"


def _closing(text: str, opening: int) -> int:
    """Position after the bracket that closes the one at ``opening``."""
    depth = 0
    for match in PIECE.finditer(text, opening):
        if match.group() in ("(", "[", "{"):
            depth += 1
        elif match.group() in (")", "]", "}"):
            depth -= 1
            if depth == 0:
                return match.end()
    fail(text, opening, "this bracket is not closed")


def merge_powers(text: str, tokens: list[Token]) -> list[Token]:
    """Turn ``x^2`` into ``I(x**2)``, and ``(x)`` into ``x``."""
    merged: list[Token] = []
    place = 0
    while place < len(tokens):
        merged.append(tokens[place])
        place += 1
        if [t.text for t in merged[-3::2]] == ["(", ")"] and merged[-2].kind == "operand":
            merged[-3:] = [replace(merged[-2], start=merged[-3].start)]
        base = merged[-1].factor
        if base is None or place >= len(tokens) or tokens[place].text not in ("^", "**"):
            continue
        sign = "-" if [t.text for t in tokens[place + 1 : place + 2]] == ["-"] else ""
        after = place + 1 + len(sign)
        if after >= len(tokens) or tokens[after].kind != "number":
            fail(text, tokens[place].start, "a power is a number, as in x^2")
        if after + 1 < len(tokens) and tokens[after + 1].text in ("^", "**"):
            fail(text, tokens[after + 1].start, "write a power of a power as I((x**2)**3)")
        source = quote_inside(base.name) if base.kind == "column" else base.name
        power = _operand(text, merged[-1].start, f"I({source} ** {sign}{tokens[after].text})")
        merged[-1] = replace(merged[-1], text=power.name, factor=power)
        place = after + 1
    return merged


def check_order(text: str, tokens: list[Token]) -> None:
    """Check that operands and operators alternate and brackets close."""
    if not tokens:
        fail(text, len(text), "the right side is empty; for an intercept alone write 1")
    opened: list[int] = []
    before = Token("op", "(", 0)
    for position, token in enumerate(tokens):
        after_operand = before.kind != "op" or before.text == ")"
        if token.kind != "op" or token.text == "(":
            if after_operand:
                fail(text, token.start, "an operator is missing before this")
        elif not after_operand and not (token.text in "+-" and before.text in "(+-"):
            fail(text, token.start, f"a term is missing before {token.text!r}")
        if before.text in ("^", "**") and token.kind != "number":
            fail(text, token.start, "a power of a bracket is one whole number from 1 to 99")
        if token.text == "(" and token.kind == "op":
            opened.append(token.start)
        elif token.text == ")" and token.kind == "op":
            if not opened:
                fail(text, token.start, "this bracket was never opened")
            opened.pop()
        elif token.kind == "number":
            _check_number(text, tokens, position, len(opened))
        before = token
    if opened:
        fail(text, opened[-1], "this bracket is not closed")
    if before.kind == "op" and before.text != ")":
        fail(text, before.start, f"a term is missing after {before.text!r}")


def _check_number(text: str, tokens: list[Token], position: int, depth: int) -> None:
    """Allow 0 and 1 as the intercept, and whole numbers as powers of brackets."""
    token = tokens[position]
    before = tokens[position - 1].text if position else "+"
    after = tokens[position + 1].text if position + 1 < len(tokens) else "+"
    if before in ("^", "**"):
        if not re.fullmatch(r"[1-9]\d?", token.text) or after in ("^", "**"):
            fail(text, token.start, "a power of a bracket is one whole number from 1 to 99")
    elif depth and token.text in ("0", "1"):
        fail(text, token.start, "0 and 1 (the intercept) belong outside brackets")
    elif token.text not in ("0", "1") or before not in "+-" or after not in "+-":
        fail(text, token.start, f"numbers belong inside I(...), as in I({token.text} * x)")
