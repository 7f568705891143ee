"""Formulas mean what they mean in formulaic, and run nothing."""

import builtins
import os
import time

import pandas as pd
import pytest
from formulaic import Formula as FormulaicFormula
from hypothesis import given
from hypothesis import strategies as st

from clusterwise.core.errors import FormulaError
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.formula import parse
from clusterwise.frames.table import open_table


@pytest.mark.parametrize(
    ("text", "response", "right", "variables"),
    [
        ("y ~ x1 + g", "y", "x1 + g", ("y", "x1", "g")),
        ("x1 + x2", None, "x1 + x2", ("x1", "x2")),
        ("~ x1", None, "x1", ("x1",)),
        ("log(y) ~ a * b - 1", "log(y)", "0 + a + b + a:b", ("y", "a", "b")),
        ("y ~ 0 + x", "y", "0 + x", ("y", "x")),
        ("y ~ -1 + x", "y", "0 + x", ("y", "x")),
        ("y ~ 1", "y", "1", ("y",)),
        ("y ~ 0", "y", "0", ("y",)),
        ("y ~ a:b + c", "y", "c + a:b", ("y", "a", "b", "c")),
        ("y^2 ~ x", "I(y ** 2)", "x", ("y", "x")),
        ("y ~ x^2", "y", "I(x ** 2)", ("y", "x")),
        ("y ~ x**2 + x", "y", "I(x ** 2) + x", ("y", "x")),
        ("y ~ (x)^2", "y", "I(x ** 2)", ("y", "x")),
        ("x^-0.5", None, "I(x ** (-0.5))", ("x",)),
        ("log(x)^2", None, "I(log(x) ** 2)", ("x",)),
        ("`my col`^2", None, "I(`my col` ** 2)", ("my col",)),
        ("I(x^2 + 1)", None, "I(x ** 2 + 1)", ("x",)),
        ("{x + z}", None, "I(x + z)", ("x", "z")),
        ("(a + b)^2", None, "a + b + a:b", ("a", "b")),
        ("a / b", None, "a + a:b", ("a", "b")),
        ("`my col` + log(`a b` / 2)", None, "`my col` + log(`a b` / 2)", ("my col", "a b")),
        ("Sepal.Length + größe", None, "Sepal.Length + größe", ("Sepal.Length", "größe")),
        ("log(µ)", None, "log(µ)", ("µ",)),
        ("`class` + class", None, "class", ("class",)),
        ("C(g, Treatment('b)'))", None, "C(g, Treatment('b)'))", ("g",)),
        ('`x\'s "y"` + `f(x)`', None, '`x\'s "y"` + `f(x)`', ('x\'s "y"', "f(x)")),
        ("`^` * `~` + `(`", None, "`^` + `~` + `(` + `^`:`~`", ("^", "~", "(")),
        ("`__import__('os')`", None, "`__import__('os')`", ("__import__('os')",)),
    ],
)
def test_parts_of_a_formula(text, response, right, variables):
    formula = parse(text)
    assert (formula.response, formula.right, formula.variables) == (response, right, variables)
    assert parse(formula.right).terms == formula.terms
    assert formula.intercept == (() in formula.terms)


def test_a_dot_is_all_other_columns():
    assert parse("log(y) ~ . - b", columns=["y", "a", "b", "c d"]).right == "a + `c d`"
    with pytest.raises(FormulaError, match="name the columns"):
        parse("y ~ .")


def test_the_caller_says_whether_there_is_a_response():
    assert parse("y ~ x", response=True).response == "y"
    with pytest.raises(FormulaError, match="no response"):
        parse("x", response=True)
    with pytest.raises(FormulaError, match="must have no response"):
        parse("y ~ x", response=False)
    assert parse("x + z").without_intercept == "0 + x + z"


operands = st.sampled_from(["a", "b", "c", "d"])
sums = st.recursive(
    operands,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", ":", "*", "/"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        st.tuples(inner, inner, st.integers(1, 2)).map(lambda t: f"({t[0]} + {t[1]})**{t[2]}"),
    ),
    max_leaves=5,
)


@given(sums, st.sampled_from(["", " - 1", " + 0", " + 1"]))
def test_the_algebra_is_formulaics(text, ending):
    try:
        theirs = list(FormulaicFormula(text + ending))
    except Exception:
        return
    # A power of one operand is arithmetic here, and no power is left in formulaic's terms.
    try:
        mine = parse(text + ending)
    except FormulaError as error:
        assert "20,000" in str(error)
        return
    if "I(" not in mine.right:
        want = [frozenset(f.expr for f in term.factors) - {"1"} for term in theirs]
        assert [frozenset(f.name for f in term) for term in mine.terms] == want


MALICIOUS = [
    "__import__('os').system('touch owned')",
    "y ~ __import__('os').system('touch owned')",
    "y ~ I(__import__('os').system('touch owned'))",
    "y ~ log(__import__('os'))",
    "y ~ {__import__('os').system('touch owned')}",
    "y ~ {open('owned', 'w')}",
    "{[].__class__}",
    "{x.__class__.__bases__[0].__subclasses__()}",
    "open('owned', 'w') ~ x",
    "eval('1')",
    "exec('1')",
    "getattr(x, 'y')",
    "x.__class__",
    "I(x.__class__)",
    "x.values()",
    "log(x.values)",
    "log(x)(x)",
    "log(x).real",
    "x[0]",
    "I(x[0])",
    "I([x for x in y])",
    "I({x for x in y})",
    "I({x: y})",
    "I((x, y))",
    "I(x if y else z)",
    "I(x := 3)",
    "I(x and y)",
    "I(not x)",
    "I(x > 0)",
    "I(x == 0)",
    "I(x % 2)",
    "I(x // 2)",
    "I(x @ y)",
    "I(x | y)",
    "I(~x)",
    "I(*x)",
    "I(**x)",
    "I(x=3)",
    "I(lambda x: x)",
    "(lambda x: x)(y)",
    "lambda x: x",
    "I(f'{x}')",
    "f'{x}'",
    'f"{open(1)}"',
    "'a' + \"b\"",
    "log('x')",
    "log(\"');import os;('\")",
    "I(b'x')",
    "I(1j * x)",
    "I(None)",
    "I(True * x)",
    "I(...)",
    "I(await x)",
    "I(yield)",
    "`a`(x)",
    "log`x`",
    "log(`)`",
    "``",
    "`x",
    "I(`a`.b)",
    "`__import__`('os')",
    "I(`__import__`('os'))",
    "C(open('owned', 'w'))",
    "C(g, open('owned', 'w'))",
    "C(g, contr.treatment('a'))",
    "C(g, Treatment(open))",
    "C(g, Treatment('a', 'b'))",
    "C(g, levels=['a'])",
    "C(*g)",
    "log(C(g))",
    "I(x); import os",
    "x\n;import os",
    "x # comment",
    "I(x # )",
    "I(x\x00)",
    "x \\ y",
    "ｌｏｇ(x)",
    "np.log(x)",
    "contr.treatment(x)",
    "Q('x')",
    "[x]",
    "[y ~ x]",
    "y ~ [a ~ b] + c",
    "x | y",
    "(1 | id)",
    "x %in% y",
    "x $ y",
    "x @ y",
    "x = y",
    "log(stand_in_0_)",
]


@pytest.mark.parametrize("text", MALICIOUS)
def test_no_formula_runs_code(text, tmp_path, monkeypatch):
    def alarm(*arguments, **options):
        raise AssertionError("a formula ran code")

    # Loaded before the alarms are set, so that only what the formula does can raise them.
    parse("y ~ x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "system", alarm)
    monkeypatch.setattr(builtins, "eval", alarm)
    monkeypatch.setattr(builtins, "exec", alarm)
    with pytest.raises(FormulaError):
        parse(text)
    assert not list(tmp_path.iterdir())


@given(st.text("xyg01 ~+-*/^:().`'\"{}[]\\,=_logIC\n#@%|&é", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        formula = parse(text)
    except FormulaError:
        return
    assert parse(formula.right).terms == formula.terms


@pytest.mark.parametrize("name", ["bs", "cc", "center", "cr", "cs", "hashed", "lag", "poly"])
def test_transforms_that_need_the_whole_data_are_explained(name):
    with pytest.raises(FormulaError, match="depends on the whole data; compute the column first"):
        parse(f"y ~ {name}(x, 3)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("   ", "empty"),
        (3, "is text"),
        ("y ~", "right side is empty"),
        ("y ~ x +", "missing after"),
        ("y ~ * x", "missing before"),
        ("y ~ (x", "not closed"),
        ("y ~ log(x", "not closed"),
        ("y ~ x)", "never opened"),
        ("y ~ I(`)", "not a valid expression"),
        ("a b", "operator is missing"),
        ("y ~ x ~ z", "at most one"),
        ("a + b ~ x", "left side is one"),
        ("1 ~ x", "left side is one"),
        ("y ~ 2 * x", "inside I"),
        ("y ~ x + 2", "inside I"),
        ("y ~ (1 + x):z", "outside brackets"),
        ("y ~ 1:x", "inside I"),
        ("y ~ (a + b)^x", "whole number"),
        ("y ~ (a + b)^(2)", "whole number"),
        ("y ~ (a + b)^-2", "missing before"),
        ("y ~ (a + b)^2^2", "whole number"),
        ("y ~ (a + b)^2.5", "whole number"),
        ("y ~ x^z", "a power is a number"),
        ("y ~ x^2^2", "power of a power"),
        ("np.log(x)", r"write log\(...\)"),
        ("log(x, 10)", "takes one argument"),
        ("factor(g)", r"write C\(...\)"),
        ("log(my col)", "backticks"),
        ("log(1)", "uses no column"),
        ("sinh(x)", "functions are abs"),
        ("I(x * 1e400)", "too large"),
    ],
)
def test_errors_say_what_is_wrong(text, message):
    with pytest.raises(FormulaError, match=message):
        parse(text)


def test_an_error_shows_the_place():
    with pytest.raises(FormulaError) as caught:
        parse("y ~ x + ) + z")
    _, excerpt, arrow = str(caught.value).split("\n")
    assert excerpt[arrow.index("^")] == ")"


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_001,
        "(a + b + c + d + e + f + g)^9",
        "((a + b)^9)^9",
        "(a + b)^99",
        "(a + b)^999999999",
        "(" + "+".join(f"a{i}" for i in range(900)) + ") * b * c",
        "a" + "*a" * 4_000,
        "(a*" * 2_000 + "b" + ")" * 2_000,
        ":".join("abcdefghij"),
        "I(" + "-" * 9_000 + "x)",
        "I(" + "(" * 4_000 + "x" + ")" * 4_000 + ")",
        "I(" + "+".join("x" * 4_000) + ")",
        "log(" * 1_500 + "x" + ")" * 1_500,
        "a" + "^2" * 4_000,
    ],
)
def test_explosions_are_refused_quickly(text):
    start = time.perf_counter()
    with pytest.raises(FormulaError):
        parse(text)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("text", ["+".join("a" * 4_900), "(" * 4_900 + "a" + ")" * 4_900])
def test_long_but_simple_formulas_are_read(text):
    assert parse(text).right == "a"


def test_a_power_tower_of_numbers_takes_no_time():
    frame = pd.DataFrame({"x": [0.5, 0.25]})
    encoder = Encoder.fit(open_table(frame), {"d": "0 + I(x / 9**9**9**9)"})
    assert encoder.encode(frame)["d"].tolist() == [[0.0], [0.0]]
