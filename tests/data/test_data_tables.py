import gzip
import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.data import Table, TableEncoder, table
from groundup.errors import DataError, DataNotFoundError, LabelError, MissingDependencyError

pd: Any = pytest.importorskip("pandas")

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(text) puts a CSV file there."""

    def put(text: str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return put


def flowers(n: int = 40) -> Any:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "length": rng.normal(5, 1, n).round(3),
            "petals": rng.integers(3, 9, n),
            "colour": rng.choice(["red", "blue", "white"], n),
            "wild": rng.random(n) < 0.5,
            "kind": np.resize(["rose", "lily"], n),
        }
    )


def test_a_classification(tmp_path: Path) -> None:
    frame = flowers()
    frame.to_csv(tmp_path / "flowers.csv", index=False)
    split, encoder = result = table(tmp_path / "flowers.csv")
    assert isinstance(result, Table)
    assert [a.shape for a in split] == [(32, 6), (32,), (8, 6), (8,)]
    assert [a.dtype for a in split] == [np.float32, np.int64, np.float32, np.int64]
    assert encoder.features == (
        "length",
        "petals",
        "colour=blue",
        "colour=red",
        "colour=white",
        "wild",
    )
    assert encoder.classes == ("lily", "rose")
    assert encoder.task == "classification"
    assert np.bincount(split.y_valid).tolist() == [4, 4]
    # The rows, in whatever order, are the frame's, encoded by hand.
    by_hand = np.column_stack(
        [
            frame["length"],
            frame["petals"],
            *(frame["colour"] == c for c in ("blue", "red", "white")),
            frame["wild"],
            frame["kind"] == "rose",
        ]
    ).astype(np.float32)
    got = np.concatenate([np.column_stack(split[:2]), np.column_stack(split[2:])])
    by_hand, got = by_hand[np.lexsort(by_hand.T)], got[np.lexsort(got.T)]
    np.testing.assert_array_equal(got, by_hand)
    np.testing.assert_array_equal(encoder.encode(frame)[:, 0], frame["length"].astype(np.float32))


def test_every_form_of_the_same_table(tmp_path: Path) -> None:
    frame = flowers()
    expected, encoder = table(frame)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "semi.csv", index=False, sep=";")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    frame.to_parquet(tmp_path / "a.parquet")
    categorical = frame.astype({"colour": "category", "kind": "category", "wild": "boolean"})
    categorical.astype({"petals": "Int64"}).to_parquet(tmp_path / "nullable.parquet")
    frame.set_axis(np.arange(40) // 2, axis=0).to_parquet(tmp_path / "indexed.parquet")
    for name in ("a.csv", "a.tsv", "a.csv.gz", "a.parquet", "nullable.parquet", "indexed.parquet"):
        split, other = table(str(tmp_path / name))
        for got, want in zip(split, expected, strict=True):
            np.testing.assert_array_equal(got, want, strict=True)
        assert other == encoder
        np.testing.assert_array_equal(encoder.encode(tmp_path / name), encoder.encode(frame))
    split, other = table(tmp_path / "semi.csv", sep=";")
    np.testing.assert_array_equal(split.x_train, expected.x_train)
    np.testing.assert_array_equal(other.encode(tmp_path / "semi.csv"), encoder.encode(frame))


def test_a_regression() -> None:
    frame = flowers()
    split, encoder = table(frame, target="length", drop=["kind"], valid=0.5, seed=3)
    assert (encoder.task, encoder.classes) == ("regression", None)
    assert split.y_train.dtype == np.float32
    assert split.y_train.shape == (20,)
    assert encoder.features[0] == "petals"
    np.testing.assert_array_equal(
        np.sort(np.concatenate(split[1::2])), np.sort(frame["length"].astype(np.float32))
    )
    assert table(frame, target="petals", task="regression").split.y_train.dtype == np.float32
    again = table(frame, target="length", drop=["kind"], valid=0.5, seed=3)
    np.testing.assert_array_equal(again.split.x_valid, split.x_valid)


@pytest.mark.parametrize(
    ("values", "classes", "task"),
    [
        ([10, 2, 10, 33], ("2", "10", "33"), None),
        ([True, False, True, True], ("False", "True"), None),
        (["b", "a", "B", "b"], ("B", "a", "b"), None),
        ([1.0, 0.0, 1.0, 1.0], ("0", "1"), "classification"),
    ],
)
def test_classes_are_sorted_as_what_they_are(values: list, classes: tuple, task: Any) -> None:
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4], "y": values})
    encoder = table(frame, task=task).encoder
    assert encoder.classes == classes
    names = [classes[label] for label in encoder.encode_target(frame)]
    assert names == [str(int(v)) if isinstance(v, float) else str(v) for v in values]


def test_missing_values_are_refused_by_name(write: Write) -> None:
    path = write("a,b,c,y\n1,x,1,0\n,,2,1\n,z,3,0\n4,x,4,1\n")
    with pytest.raises(
        DataError,
        match=r"table\.csv has missing values: 2 of 4 in 'a', 1 of 4 in 'b'\. Fix: pass missing=",
    ):
        table(path)
    with pytest.raises(DataError, match=r"missing values: 1 of 4 in 'b'.*"):
        table(path, drop=["a"])
    encoder = table(write("a,y\n1,0\n2,1\n3,0\n4,1\n")).encoder
    with pytest.raises(DataError, match=r"later\.csv has missing values: 1 of 2 in 'a'"):
        encoder.encode(write("a,b\n,1\n5,\n", "later.csv"))


def test_missing_values_become_the_training_rows_mean() -> None:
    frame = flowers(100)
    frame.loc[::3, "length"] = np.nan
    frame.loc[::4, "colour"] = None
    frame["wild"] = frame["wild"].astype(object)
    frame.loc[::5, "wild"] = None
    split, encoder = table(frame, missing="mean")
    assert np.isfinite(split.x_train).all()
    assert np.isfinite(split.x_valid).all()
    # A value that no row has of itself: the filled ones.
    length, colour, _ = encoder.columns[0], encoder.columns[2], encoder.columns[3]
    x = encoder.encode(frame)
    missing = frame["length"].isna().to_numpy()
    assert set(x[missing, 0]) == {np.float32(length.fill[0])}
    train_lengths = split.x_train[split.x_train[:, 0] != np.float32(length.fill[0]), 0]
    assert length.fill[0] == pytest.approx(train_lengths.mean(dtype=np.float64))
    assert sum(colour.fill) == pytest.approx(1)
    missing = frame["colour"].isna().to_numpy()
    np.testing.assert_allclose(x[missing, 2:5], np.tile(colour.fill, (missing.sum(), 1)), rtol=1e-6)
    # Later tables get the same fill, whatever their own mean.
    later = frame.iloc[:1].assign(length=np.nan)
    assert encoder.encode(later)[0, 0] == np.float32(length.fill[0])
    blank = encoder.encode(later.assign(colour=None, petals=None, wild=None))
    np.testing.assert_array_equal(
        blank[0], np.float32([f for column in encoder.columns for f in column.fill])
    )


def test_the_fill_knows_nothing_of_the_validation_rows() -> None:
    frame = pd.DataFrame({"x": np.arange(100.0), "y": np.resize([0, 1], 100)})
    split, encoder = table(frame, missing="mean", valid=0.5)
    assert encoder.columns[0].fill[0] == pytest.approx(split.x_train.mean(dtype=np.float64))
    assert encoder.columns[0].fill[0] != pytest.approx(49.5)


@pytest.mark.parametrize("missing", ["error", "mean"])
def test_the_encoder_survives_json(missing: Any) -> None:
    frame = flowers()
    encoder = table(frame, missing=missing).encoder
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(frame), encoder.encode(frame))
    regression = table(frame, target="length").encoder
    assert TableEncoder.from_dict(json.loads(json.dumps(regression.to_dict()))) == regression


def test_descriptions_that_are_none() -> None:
    good = table(flowers()).encoder.to_dict()
    with pytest.raises(DataError, match=r"a table encoder of version 2; .* knows version 1"):
        TableEncoder.from_dict({**good, "version": 2})
    for bad in ({}, {**good, "columns": 3}, {k: v for k, v in good.items() if k != "target"}):
        with pytest.raises(DataError, match="this is no table encoder's description"):
            TableEncoder.from_dict(bad)
    with pytest.raises(DataError, match="this is no table encoder's description"):
        TableEncoder.from_dict([1, 2])  # type: ignore[arg-type]


def test_a_table_without_target_and_in_another_order(write: Write) -> None:
    frame = flowers()
    encoder = table(frame).encoder
    later = frame[["wild", "colour", "petals", "length"]].assign(note="not seen before")
    np.testing.assert_array_equal(encoder.encode(later), encoder.encode(frame))
    with pytest.raises(DataError, match=r"the DataFrame has no column 'kind'. Its columns: 'wild'"):
        encoder.encode_target(later)


def test_numbers_as_categories_stay_text(write: Write) -> None:
    encoder = table(write("size,y\n1,0\n2,1\nXL,0\n1,1\n")).encoder
    assert encoder.features == ("size=1", "size=2", "size=XL")
    # This file alone would be read as numbers.
    x = encoder.encode(write("size\n2\n1\n", "later.csv"))
    assert x.tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({"lenght": [1.0]}, r"has no column 'length'\. Did you mean 'lenght'\? Its columns: "),
        ({"length": ["long"]}, r"column 'length' holds text \('long'\), and numbers are needed"),
        (
            {"length": [np.inf]},
            r"column 'length' has 1 infinite values.* \(the first: .*inf.* row 1",
        ),
        ({"length": [1e39]}, r"column 'length' has 1 infinite values, or values too large for"),
        ({"length": [np.nan]}, r"missing values: 1 of 1 in 'length'"),
        (
            {"colour": ["green"]},
            r"'colour' holds 'green', which training did not .*: it had 'blue', ",
        ),
        ({"colour": [3]}, "column 'colour' holds int64, and held text in training"),
        ({"length": [pd.Timestamp("2020-01-01")]}, "column 'length' holds datetime64 values"),
    ],
)
def test_a_later_table_that_does_not_fit(later: dict[str, list], message: str) -> None:
    row = {"length": [1.0], "petals": [5], "colour": ["red"], "wild": [True]}
    if "lenght" in later:
        del row["length"]
    encoder = table(flowers()).encoder
    with pytest.raises(DataError, match=message):
        encoder.encode(pd.DataFrame({**row, **later}))


def test_a_later_target_that_does_not_fit() -> None:
    frame = flowers()
    encoder = table(frame).encoder
    with pytest.raises(
        LabelError,
        match=r"'tulip' in the target 'kind' is none of the 2 classes .*: 'lily', 'rose'",
    ):
        encoder.encode_target(frame.assign(kind="tulip"))
    with pytest.raises(DataError, match=r"40 of 40 in 'kind'. Fix: remove those rows"):
        encoder.encode_target(frame.assign(kind=None))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "cannot be read as a table .*No columns"),
        ("a,y\n", {}, r"has no rows \(columns: 'a', 'y'\)"),
        ("y\n1\n2\n", {}, r"columns are 'y', and a target and at least one feature are needed"),
        ("a;b\n1;2\n3;4\n", {}, r"columns are 'a;b', .*name the separator: sep=';'"),
        ("a,y\n1,0\n2,1\n", {"target": "Y"}, r"has no column 'Y'\..*Its columns: 'a', 'y'"),
        ("age,y\n1,0\n2,1\n", {"target": "aeg"}, r"no column 'aeg'\. Did you mean 'age'\?"),
        ("a,y\n1,0\n2,1\n", {"drop": ["b"]}, r"has no column 'b'"),
        ("a,b,y\n1,2,0\n2,3,1\n", {"target": "b", "drop": ["b"]}, "a target and at least one"),
        ("a,y\n1,0\n2,\n3,1\n", {}, "missing values: 1 of 3 in 'y'. Fix: remove those rows"),
        ("a,y\n1,0\n2,0\n", {}, "the target 'y' has the one class '0': there is nothing to tell"),
        ("a,y\n1,u\n2,v\n", {"task": "regression"}, "'y' holds text, which no regression can"),
        ("a,y\n1,0.5\n2,1\n", {"task": "classification"}, "'y' holds fractional numbers"),
        ("a,y\n1,2,3\n4,5,6\n", {}, "cannot be read as a table"),
        ("a,y\n1,2\n4,5,6\n", {}, "cannot be read as a table .*Expected 2 fields in line 3, saw 3"),
        ("5.1,3.5,rose\n4.9,3.0,lily\n", {}, "must name the columns, and there is '5.1' in it"),
        (",a,y\n0,1,0\n1,2,1\n", {}, r"a column has no name.*drop=\['Unnamed: 0'\]"),
        ("a,y\n,0\n,1\n", {"missing": "mean"}, "'a' has no value in the training rows: drop"),
        ("a,y\n1,0\ninf,1\n", {}, "column 'a' has 1 infinite values"),
        ("a,y\n1,0\n2,1\n", {"missing": "median"}, "missing='median': take 'error' or 'mean'"),
        ("a,y\n1,0\n2,1\n", {"task": "ranking"}, "task='ranking': take 'classification'"),
        ("a,y\n1,0\n2,1\n", {"valid": 0.9}, "valid=0.9 of 2 rows leaves none to train on"),
    ],
)
def test_tables_that_are_refused(write: Write, text: str, options: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(write(text), **options)


def test_an_index_column_can_be_dropped(write: Write) -> None:
    _, encoder = table(write(",a,y\n0,1,0\n1,2,1\n2,4,1\n"), drop=["Unnamed: 0"])
    assert encoder.features == ("a",)


def test_names_and_quantities_are_no_categories() -> None:
    n = 200
    frame = pd.DataFrame(
        {"name": [f"flower {i}" for i in range(n)], "x": np.arange(n) / 7, "y": np.arange(n) % 2}
    )
    with pytest.raises(DataError, match=r"'name' has 200 different texts in 200 .*drop=\['name'\]"):
        table(frame)
    assert table(frame, drop=["name"]).split.x_train.shape == (160, 1)
    frame = frame.assign(y=np.arange(n))
    with pytest.raises(DataError, match=r"'y' has 200 different values in 200 .*task='regression'"):
        table(frame, drop=["name"])
    assert table(frame, drop=["name"], task="regression").encoder.classes is None


def test_values_of_other_kinds() -> None:
    y = [0, 1, 0, 1]
    for bad in (
        pd.date_range("2020-01-01", periods=4),
        [1 + 2j] * 4,
        ["a", 1, "b", 2],
        [[1], [2], [3], [4]],
    ):
        with pytest.raises(
            DataError, match=r"column 'x' holds .* groundup takes numbers, truth val"
        ):
            table(pd.DataFrame({"x": bad, "y": y}))
    decimals = pd.DataFrame({"x": [Decimal("1.5"), Decimal("2")] * 2, "y": y})
    assert sorted(set(table(decimals).encoder.encode(decimals)[:, 0])) == [1.5, 2.0]


def test_names_that_are_numbers_or_double() -> None:
    frame = pd.DataFrame(np.arange(12.0).reshape(4, 3)).assign(y=[0, 1, 0, 1])
    assert table(frame).encoder.features == ("0", "1", "2")
    with pytest.raises(DataError, match="two columns are named 'a': rename one"):
        table(frame.set_axis(["a", "b", "a", "y"], axis=1))


def test_files_that_cannot_be_read(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataNotFoundError, match=r"there is no file .*nothing\.csv"):
        table(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match=r"table\.xls: a table's name ends in \.csv, \.tsv, \.txt"):
        table(write("", "table.xls"))
    with pytest.raises(
        DataError, match="a table is a path or a pandas DataFrame, and this is a list"
    ):
        table([1, 2])
    (tmp_path / "latin.csv").write_bytes("name,y\nGrün,1\n".encode("latin1"))
    with pytest.raises(DataError, match=r"latin\.csv is not UTF-8"):
        table(tmp_path / "latin.csv")
    with pytest.raises(DataError, match=r"p\.parquet cannot be read as a table"):
        table(write("no parquet", "p.parquet"))
    whole = gzip.compress(b"a,y\n" + b"1,0\n2,1\n" * 1000)
    for name, content in (("cut", whole[:-20]), ("wrong", b"a,y\n1,2\n")):
        (tmp_path / f"{name}.csv.gz").write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}\.csv\.gz cannot be read as a table"):
            table(tmp_path / f"{name}.csv.gz")


@pytest.mark.parametrize(("module", "name"), [("pandas", "a.csv"), ("pyarrow", "a.parquet")])
def test_without_the_extra(
    write: Write, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingDependencyError,
        match=rf"Reading .* needs {module}, .*Fix: pip install groundup\[tables\]",
    ):
        table(write("a,y\n1,0\n2,1\n", name))
