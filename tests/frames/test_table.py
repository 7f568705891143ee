"""Tables read the same from every kind of data, in batches of exact size."""

import gzip

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from clusterwise.core.errors import DataError, FileError
from clusterwise.frames.encoder import Encoder
from clusterwise.frames.table import open_table

N = 103
KINDS = [
    *("pandas", "pandas-arrow", "polars", "arrow", "arrow-chunks", "record-batch", "dict"),
    *("csv", "csv.gz", "parquet", "pq", "arrow-file", "arrow-stream", "feather", "ipc"),
]


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "x": rng.normal(size=N),
            "count": rng.integers(0, 50, N),
            "flag": rng.random(N) < 0.5,
            "my col": rng.uniform(1, 2, N),
            "größe": rng.normal(size=N),
            "g": rng.choice(["b", "a", "<i>'q\"</i>", "d, e"], N),
        }
    )


def as_kind(frame, kind, folder):
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    path = folder / f"data.{kind}"
    match kind:
        case "pandas":
            return frame
        case "pandas-arrow":
            return arrow.to_pandas(types_mapper=pd.ArrowDtype)
        case "polars":
            return pl.from_pandas(frame)
        case "arrow":
            return arrow
        case "arrow-chunks":
            return pa.concat_tables([arrow.slice(0, 10), arrow.slice(10, 1), arrow.slice(11)])
        case "record-batch":
            return arrow.combine_chunks().to_batches()[0]
        case "dict":
            return {
                "x": frame["x"].to_numpy(),
                "count": pl.Series(frame["count"].to_list()),
                "flag": frame["flag"].to_list(),
                "my col": frame["my col"],
                "größe": arrow["größe"],
                "g": frame["g"].to_list(),
            }
        case "csv":
            frame.to_csv(path, index=False)
        case "csv.gz":
            path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
        case "parquet" | "pq":
            pq.write_table(arrow, path, row_group_size=17)
        case "arrow-file" | "ipc":
            path = folder / "data.arrow" if kind == "arrow-file" else path
            with pa.ipc.new_file(path, arrow.schema) as writer:
                writer.write_table(arrow, max_chunksize=9)
        case "arrow-stream":
            path = folder / "stream.arrow"
            with pa.ipc.new_stream(path, arrow.schema) as writer:
                writer.write_table(arrow, max_chunksize=9)
        case "feather":
            pyarrow.feather.write_feather(arrow, path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_the_same_arrays(frame, kind, tmp_path):
    table = open_table(as_kind(frame, kind, tmp_path))
    assert table.names == tuple(frame.columns)
    assert table.n_rows in (None, N)
    designs = {"d": "x + count + flag + log(`my col`) + größe + g"}
    encoder = Encoder.fit(table, designs, rows=10)
    names = encoder.variables("d")
    got = np.concatenate([encoder.encode(b)["d"] for b in table.batches(names, 10)])
    level = {name: frame["g"] == name for name in sorted(set(frame["g"]))[1:]}
    want = np.column_stack(
        [
            *(np.ones(N), frame["x"], frame["count"], frame["flag"], np.log(frame["my col"])),
            *(frame["größe"], *level.values()),
        ]
    )
    assert encoder.columns("d")[-len(level) :] == tuple(f"g[T.{name}]" for name in level)
    np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 10, N, 1000])
def test_batches_have_exactly_the_columns_and_rows_asked_for(frame, kind, rows, tmp_path):
    table = open_table(as_kind(frame, kind, tmp_path))
    for _ in range(2):
        batches = list(table.batches(["g", "x"], rows))
        sizes = [len(batch) for batch in batches]
        assert sizes[:-1] == [rows] * (len(sizes) - 1)
        assert sum(sizes) == N
        assert all(list(batch.columns) == ["g", "x"] for batch in batches)
    np.testing.assert_array_equal(np.concatenate([b["x"] for b in batches]), frame["x"])
    assert sum(len(batch) for batch in table.batches([], rows)) == N


def test_a_two_dimensional_array_has_numbered_columns():
    table = open_table(np.arange(6.0).reshape(3, 2))
    assert (table.names, table.n_rows, table.is_file) == (("x0", "x1"), 3, False)
    (batch,) = table.batches(["x1"], 5)
    np.testing.assert_array_equal(batch["x1"], [1.0, 3.0, 5.0])


def test_slices_of_numeric_memory_are_not_copied():
    x = np.arange(10.0)
    first, _ = open_table({"x": x}).batches(["x"], 5)
    assert np.shares_memory(first["x"].to_numpy(), x)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(3), "two dimensions"),
        (np.zeros((2, 2, 2)), "two dimensions"),
        ({"x": [1.0, 2.0], "y": [1.0]}, "column 'y' has 1 rows"),
        ({"x": np.zeros((2, 2))}, "one dimension"),
        ({"x": 3.0}, "one dimension"),
        (pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"]), "several columns named 'a'"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "several columns named 'a'"),
        (pl.LazyFrame({"x": [1]}), "collected"),
        (3, "cannot use int"),
        (None, "cannot use NoneType"),
    ],
)
def test_unusable_data_is_refused(data, message):
    with pytest.raises(DataError, match=message):
        open_table(data)


def test_a_missing_column_is_named_with_the_closest_one():
    table = open_table({"height": [1.0], "weight": [2.0]})
    with pytest.raises(DataError, match=r"no column 'heigth'; did you mean 'height'.*weight"):
        list(table.batches(["heigth"], 1))


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"x", "must end in .csv"),
        ("a.csv", b"", "is empty"),
        ("a.parquet", b"", "is empty"),
        ("a.parquet", b"PAR1 nonsense", "damaged"),
        ("a.arrow", b"ARROW1 nonsense", "damaged"),
        ("a.feather", b"\x00" * 100, "damaged"),
        ("a.csv", b"a;b\n1;2\n", "commas"),
        ("a.csv.gz", b"not gzip", "damaged"),
    ],
)
def test_bad_files_are_refused_by_name(name, content, message, tmp_path):
    path = write(tmp_path / name, content)
    with pytest.raises(FileError, match=message) as caught:
        open_table(path)
    assert name in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(FileError, match="no file"):
        open_table(tmp_path / "nowhere.csv")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    with pytest.raises(FileError, match="is a folder"):
        open_table(str(folder))


@pytest.mark.parametrize("kind", ["parquet", "ipc", "feather"])
def test_truncated_files_are_refused(frame, kind, tmp_path):
    path = as_kind(frame, kind, tmp_path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(FileError, match="cut short"):
        list(open_table(path).batches(["x"], 10))


def test_a_csv_row_with_too_few_values_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", b"a,b\n" + b"1,2\n" * 1_000_000 + b"3\n")
    with pytest.raises(FileError, match="Expected 2 columns"):
        list(open_table(path).batches(["a"], 1000))


def test_csv_duplicate_columns_are_refused(tmp_path):
    with pytest.raises(DataError, match="several columns named 'a'"):
        open_table(write(tmp_path / "a.csv", b"a,a\n1,2\n"))


@pytest.mark.parametrize(
    ("last", "kind"), [(b"1", "i"), (b"2.5", "f"), (b"text", "O"), (b"true", "O"), (b"", "f")]
)
def test_csv_types_hold_for_the_whole_file(last, kind, tmp_path):
    path = write(tmp_path / "a.csv", b"a,b\n" + b"1,2\n" * 2_000_000 + last + b",9\n")
    batches = list(open_table(path).batches(["a"], 500_000))
    assert sum(map(len, batches)) == 2_000_001
    assert {"O" if b["a"].dtype == "str" else b["a"].dtype.kind for b in batches[:-1]} <= {
        kind,
        "i" if last == b"" else kind,
    }


def test_csv_reads_quotes_line_breaks_booleans_and_byte_order_marks(tmp_path):
    content = '\ufeffx,"a ""b""",t\r\n1,"two\nlines",TRUE\r\n2,"c, d",false\r\n'.encode()
    (batch,) = open_table(write(tmp_path / "a.csv", content)).batches(["x", 'a "b"', "t"], 5)
    assert batch['a "b"'].tolist() == ["two\nlines", "c, d"]
    assert batch["t"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *(("  7", "i"), ("7 ", "i"), (" 1.5", "f"), ("+5", "f"), ("nan", "f"), (" true", "O")),
        *(("1_000", "O"), ("2020-01-01", "O"), ("99999999999999999999", "f"), ('"2"', "i")),
    ],
)
def test_csv_reads_what_it_takes_for_a_number(value, kind, tmp_path):
    path = write(tmp_path / "a.csv", f"a,b\n1,2\n{value},3\n".encode())
    (batch,) = open_table(path).batches(["a"], 5)
    assert ("O" if batch["a"].dtype == "str" else batch["a"].dtype.kind) == kind


@pytest.mark.parametrize("kind", ["parquet", "ipc", "feather", "arrow-stream"])
def test_declared_categories_survive_files(kind, tmp_path):
    values = pd.Categorical(list("zbzaba"), list("zbqa"))
    path = as_kind(pd.DataFrame({"g": values, "x": 1.0}), kind, tmp_path)
    encoder = Encoder.fit(open_table(path), {"d": "g"}, rows=2)
    assert encoder.levels("g") == ("z", "b", "a")


def test_polars_files_are_read(tmp_path):
    frame = pl.DataFrame({"g": list("bab"), "x": [1, 2, 3]}, schema_overrides={"g": pl.Enum("cba")})
    frame.write_ipc(tmp_path / "a.ipc")
    frame.write_parquet(tmp_path / "a.parquet")
    for name in ("a.ipc", "a.parquet"):
        encoder = Encoder.fit(open_table(tmp_path / name), {"d": "x + g"})
        assert encoder.columns("d") == ("Intercept", "x", "g[T.a]")


def test_column_names_that_need_care_in_files(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1.0], "a.b": [2.0], "": [3.0]}), path)
    (batch,) = open_table(path).batches(["a.b", "a"], 4)
    assert batch.to_dict("list") == {"a.b": [2.0], "a": [1.0]}
    assert open_table(pd.DataFrame(np.zeros((2, 2)))).names == ("0", "1")


def test_a_table_without_rows_is_open_but_cannot_be_fitted(tmp_path):
    for data in (pd.DataFrame({"x": []}), write(tmp_path / "a.csv", b"x\n")):
        table = open_table(data)
        assert table.names == ("x",)
        assert not sum(len(batch) for batch in table.batches(["x"], 5))
        with pytest.raises(DataError, match="no rows"):
            Encoder.fit(table, {"d": "x"})


def test_memory_stays_flat(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(0).normal(size=4_000_000)}), path)
    table = open_table(path)
    before = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() for _ in table.batches(["x"], 10_000)) - before
    assert peak < 16_000_000  # the file holds twice as much, in four row groups
    assert pa.total_allocated_bytes() - before < 1_000_000
