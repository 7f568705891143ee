"""Encoders give formulaic's columns, survive JSON and explain bad data."""

import json
from decimal import Decimal

import formulaic
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clusterwise.core.errors import DataError, FileError, FormulaError, OptionError
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.table import open_table

N = 60
FORMULAS = [
    *("1", "x", "0 + x", "x + z", "0 + x + z", "x:z", "x * z", "log(z)", "log10(z) + exp(x)"),
    *("g", "0 + g", "x + g", "g - 1", "x:g", "x * g", "x * g - g", "g:h", "0 + g:h", "g * h"),
    *("g:h + x:g", "0 + g:h + x:g", "x:g:h + g", "(x + z + g)**2", "g / x", "x / g", "g*h*x"),
    *("C(i)", "C(i) * g", "0 + C(i):h", "C(b)", "b", "b * g", "one + x", "0 + one", "one:g"),
    *("C(g, Treatment('b'))", "0 + C(g, Treatment('b')):h", "x + C(g, Treatment(reference='c'))"),
    *("I(x**2 + z)", "I(x**2):g", "`my col` + log(`my col`):x", "`my col`:g + größe"),
    *("declared", "0 + declared * x"),
]


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(2)
    declared = pd.Categorical(rng.choice(["low", "high"], N), ["low", "never", "high"])
    return pd.DataFrame(
        {
            "x": rng.normal(size=N),
            "z": rng.uniform(1, 2, N),
            "my col": rng.uniform(1, 2, N),
            "größe": rng.normal(size=N),
            "i": rng.integers(1, 4, N),
            "b": rng.random(N) < 0.5,
            "g": rng.choice(["a", "b", "c"], N),
            "h": rng.choice(["u", "v"], N),
            "one": "only",
            "odd": rng.choice(["<b>", "it's", 'a "q"', "{x}", "__d", ""], N),
            "declared": declared,
        }
    )


@pytest.mark.parametrize("formula", FORMULAS)
def test_columns_and_values_are_formulaics(frame, formula):
    seen = frame.assign(declared=frame["declared"].cat.remove_unused_categories())
    want = formulaic.model_matrix(formula, seen)
    encoder = Encoder.fit(open_table(frame), {"d": formula}, rows=7)
    got = encoder.encode(frame)["d"]
    assert encoder.columns("d") == tuple(want.columns)
    np.testing.assert_allclose(got, np.asarray(want, float), rtol=1e-14)
    assert got.dtype == np.float64
    assert got.flags["C_CONTIGUOUS"]
    assert encoder.n_rows == N

    saved = json.loads(json.dumps(encoder.to_dict(), allow_nan=False))
    again = Encoder.from_dict(saved)
    assert again.columns("d") == encoder.columns("d")
    assert again.to_dict() == encoder.to_dict()
    np.testing.assert_array_equal(again.encode(frame)["d"], got)


def test_odd_level_names_are_coded_one_by_one(frame):
    encoder = Encoder.fit(open_table(frame), {"d": "0 + odd"})
    levels = sorted(set(frame["odd"]))
    assert encoder.columns("d") == tuple(f"odd[{level}]" for level in levels)
    want = np.column_stack([frame["odd"] == level for level in levels])
    np.testing.assert_array_equal(encoder.encode(frame)["d"], want)
    assert encoder.levels("odd") == tuple(levels)


def test_designs_share_one_pass(frame):
    designs = {"response:y": "0 + log(z)", "regressors:y": "x + g", "weight": "0 + i"}
    encoder = Encoder.fit(open_table(frame), designs)
    assert encoder.designs == tuple(designs)
    assert encoder.variables("regressors:y") == ("x", "g")
    assert encoder.terms("regressors:y") == ("1", "x", "g", "g")
    arrays = encoder.encode(frame)
    assert {name: array.shape for name, array in arrays.items()} == {
        "response:y": (N, 1),
        "regressors:y": (N, 4),
        "weight": (N, 1),
    }
    some = encoder.encode(frame[["x", "g"]], ["regressors:y"])
    np.testing.assert_array_equal(some["regressors:y"], arrays["regressors:y"])
    with pytest.raises(OptionError, match="no design 'other'"):
        encoder.columns("other")


def test_arrays_do_not_alias_the_data():
    x = np.arange(4.0)
    frame = pd.DataFrame({"x": x}, copy=False)
    Encoder.fit(open_table(frame), {"d": "0 + x"}).encode(frame)["d"][:] = -1
    assert x.tolist() == [0, 1, 2, 3]


def test_a_design_without_variables_counts_rows(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0]}), path)
    table = open_table(path)
    encoder = Encoder.fit(table, {"d": "1", "empty": "0"})
    (batch,) = table.batches(encoder.variables("d"), 5)
    assert encoder.n_rows == 3
    assert encoder.encode(batch)["d"].tolist() == [[1.0], [1.0], [1.0]]
    assert encoder.encode(batch)["empty"].shape == (3, 0)


NUMERIC = [
    pd.Series([1, 0, 1], dtype="int8"),
    pd.Series([1, 0, 1], dtype="uint64"),
    pd.Series([1, 0, 1], dtype="float32"),
    pd.Series([1, 0, 1], dtype="Int64"),
    pd.Series([1, 0, 1], dtype="Float64"),
    pd.Series([1, 0, 1], dtype="int64[pyarrow]"),
    pd.Series([True, False, True]),
    pd.Series([True, False, True], dtype="boolean"),
    pd.Series([True, False, True], dtype=object),
    pd.Series([Decimal(1), Decimal(0), Decimal(1)]),
    pd.Series([Decimal(1), Decimal(0), Decimal(1)], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
    pl.Series([Decimal(1), Decimal(0), Decimal(1)]),
    pl.Series([True, False, True]),
    pa.chunked_array([pa.array([1, 0, 1], pa.float16())]),
]


@pytest.mark.parametrize("column", NUMERIC)
def test_every_type_of_number_is_read(column):
    table = open_table({"x": column})
    encoder = Encoder.fit(table, {"d": "0 + x"})
    (batch,) = table.batches(["x"], 10)
    assert encoder.encode(batch)["d"].ravel().tolist() == [1.0, 0.0, 1.0]


TEXTS = ["b", "c", "a", "b"]
CATEGORIES = {
    "str": (pd.DataFrame({"g": TEXTS}), "abc"),
    "object": (pd.DataFrame({"g": pd.Series(TEXTS, dtype=object)}), "abc"),
    "string": (pd.DataFrame({"g": pd.Series(TEXTS, dtype="string")}), "abc"),
    "arrow-string": (pd.DataFrame({"g": pd.Series(TEXTS, dtype="string[pyarrow]")}), "abc"),
    "categorical": (pd.DataFrame({"g": pd.Categorical(TEXTS, list("dcba"))}), "cba"),
    "polars": (pl.DataFrame({"g": TEXTS}), "abc"),
    "polars-categorical": (pl.DataFrame({"g": TEXTS}, schema={"g": pl.Categorical}), "abc"),
    "polars-enum": (pl.DataFrame({"g": TEXTS}, schema={"g": pl.Enum(list("dcba"))}), "cba"),
    "arrow": (pa.table({"g": TEXTS}), "abc"),
    "arrow-view": (pa.table({"g": pa.array(TEXTS, pa.string_view())}), "abc"),
    "arrow-large": (pa.table({"g": pa.array(TEXTS, pa.large_string())}), "abc"),
    "dictionary": (
        pa.table({"g": pa.DictionaryArray.from_arrays([2, 1, 3, 2], list("dcba"))}),
        "cba",
    ),
    "dictionaries": (
        pa.table(
            {
                "g": pa.chunked_array(
                    [pa.array(TEXTS[i : i + 2]).dictionary_encode() for i in (0, 2)]
                )
            }
        ),
        None,
    ),
}


@pytest.mark.parametrize("rows", [1, 2, 10])
@pytest.mark.parametrize("kind", CATEGORIES)
def test_levels_are_sorted_unless_an_order_is_declared(kind, rows):
    data, order = CATEGORIES[kind]
    table = open_table(data)
    encoder = Encoder.fit(table, {"d": "0 + g"}, rows=rows)
    levels = encoder.levels("g")
    if order is not None:
        assert levels == tuple(order)
    got = np.concatenate([encoder.encode(b)["d"] for b in table.batches(["g"], rows)])
    np.testing.assert_array_equal([levels[i] for i in got.argmax(1)], TEXTS)
    np.testing.assert_array_equal(got.sum(1), 1)


def test_intervals_are_levels_by_their_text():
    frame = pd.DataFrame({"g": pd.cut([1.0, 5.0, 9.0], [0, 3, 6, 10])})
    encoder = Encoder.fit(open_table(frame), {"d": "g"})
    assert encoder.columns("d") == ("Intercept", "g[T.(3, 6]]", "g[T.(6, 10]]")
    again = Encoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    np.testing.assert_array_equal(again.encode(frame)["d"], [[1, 0, 0], [1, 1, 0], [1, 0, 1]])


BAD = [
    (
        "x",
        [1.0, np.nan, 3.0],
        "column 'x' has missing values in 1 row .from 0: 11.; .*drop these rows",
    ),
    ("x", [None, 2.0, None], "missing values in 2 rows .from 0: 10, 12."),
    ("x", pd.Series([1, None, 3], dtype="Int64"), "missing values in 1 row"),
    ("x", pd.Series([True, None, False], dtype=object), "missing values in 1 row"),
    ("x", [None, None, None], "missing values in 3 rows"),
    ("x", [1.0, np.inf, -np.inf], "is infinite in 2 rows .from 0: 11, 12."),
    ("x", ["a", "b", "c"], "column 'x' holds text where numbers are needed"),
    ("x", pd.Series([1, "two", 3], dtype=object), "text .* .such as 'two'. in 1 row .from 0: 11."),
    ("x", [-1.0, 2.0, 0.0], r"the term 'log\(x\)' is not a finite number in 2 rows"),
    ("x", pd.to_datetime(["2020-01-01"] * 3), "dates or times; convert them to numbers"),
    ("x", pd.to_timedelta([1, 2, 3]), "dates or times"),
    ("x", [1j, 2j, 3j], "complex"),
    ("g", ["a", None, "b"], "column 'g' has missing values in 1 row .from 0: 11."),
    ("g", ["a", "new", "b"], "level 'new', which was never .* 11.; the known levels are 'a', 'b'"),
    ("g", pd.Categorical(["a", "new", "b"]), "level 'new'"),
    ("g", [1, 2, 3], "level 1, which was never seen"),
]


@pytest.mark.parametrize(("name", "values", "message"), BAD)
def test_bad_values_are_named_with_their_rows(name, values, message):
    good = pd.DataFrame({"x": [1.0, 2.0, 3.0], "g": ["a", "b", "a"]})
    encoder = Encoder.fit(open_table(good), {"d": "log(x) + g"})
    with pytest.raises(DataError, match=message):
        encoder.encode(good.assign(**{name: values}), first_row=10)


def test_a_fit_counts_all_bad_rows():
    x = np.arange(1.0, 101.0)
    x[::10] = np.nan
    with pytest.raises(DataError, match=r"in 10 rows .from 0: 0, 10, 20, 30, 40, ...."):
        Encoder.fit(open_table({"x": x}), {"d": "x"}, rows=7)
    with pytest.raises(DataError, match=r"in 51 rows .from 0: 0, 1, 2, 3, 4.*x = -50"):
        Encoder.fit(open_table({"x": np.arange(-50.0, 50.0)}), {"d": "log(x)"}, rows=7)


def test_a_mixed_column_is_refused():
    for values in (["a"] * 5 + [1] * 5, [1] * 5 + ["a"] * 5):
        table = open_table({"x": values})
        with pytest.raises(DataError, match=r"numbers among text|text where numbers"):
            Encoder.fit(table, {"d": "x"}, rows=2)


def test_other_refusals():
    table = open_table({"g": ["a", "b"], "x": [1.0, 2.0]})
    with pytest.raises(DataError, match=r"holds text, but log\(g\) needs numbers"):
        Encoder.fit(table, {"d": "log(g)"})
    with pytest.raises(DataError, match="no column 'xx'; did you mean 'x'"):
        Encoder.fit(table, {"d": "xx"})
    with pytest.raises(DataError, match="no column 'x'"):
        Encoder.fit(table, {"d": "x"}).encode(pd.DataFrame({"z": [1.0]}))
    with pytest.raises(DataError, match="there is no level 'q'"):
        Encoder.fit(table, {"d": "C(g, Treatment('q'))"})
    with pytest.raises(FormulaError, match="no response"):
        Encoder.fit(table, {"d": "x ~ g"})
    with pytest.raises(DataError, match="more than 5,000 levels"):
        Encoder.fit(open_table({"i": [str(i) for i in range(6_000)]}), {"d": "i"})
    with pytest.raises(DataError, match="more than 5,000 columns"):
        many = {name: [str(i) for i in range(100)] for name in "ab"}
        Encoder.fit(open_table(many), {"d": "a:b"})
    with pytest.raises(DataError, match=r"called 'g.T.b.'"):
        Encoder.fit(open_table({"g": ["a", "b"], "g[T.b]": [1, 2]}), {"d": "`g[T.b]` + g"})


@pytest.fixture
def saved():
    table = open_table({"g": ["a", "b"], "x": [1.0, 2.0]})
    return Encoder.fit(table, {"d": "x + g"}).to_dict()


def test_a_saved_formula_cannot_run_code(saved):
    saved["designs"]["d"]["formula"] = "__import__('os').system('true')"
    with pytest.raises(FileError, match="not allowed"):
        Encoder.from_dict(saved)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), 99),
        (("n_rows",), -1),
        (("n_rows",), "many"),
        (("designs",), None),
        (("designs",), {"d": "x"}),
        (("designs", "d", "formula"), "x"),
        (("designs", "d", "formula"), 3),
        (("designs", "d", "columns"), []),
        (("variables",), {}),
        (("variables",), []),
        (("variables", "g"), None),
        (("variables", "g", "kind"), "other"),
        (("variables", "g", "levels"), None),
        (("variables", "g", "levels"), []),
        (("variables", "g", "levels"), ["a", "a"]),
        (("variables", "g", "levels"), [["a"], ["b"]]),
        (("variables", "g", "levels"), "ab"),
    ],
)
def test_a_damaged_encoder_is_refused(saved, place, value):
    part = saved
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(FileError, match="saved encoder"):
        Encoder.from_dict(saved)


@pytest.mark.parametrize("garbage", [None, [], 3, "x", {}])
def test_garbage_is_no_encoder(garbage):
    with pytest.raises(FileError):
        Encoder.from_dict(garbage)
