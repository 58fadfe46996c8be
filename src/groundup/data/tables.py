"""CSV and Parquet tables with a target column. Needs pandas: pip install groundup[tables]."""

import os
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundup.data.extras import optional
from groundup.data.split import Split, split_rows
from groundup.errors import DataError, DataNotFoundError, LabelError

Task = Literal["classification", "regression"]
Missing = Literal["error", "mean"]

# The columns that we take, by what pandas' infer_dtype calls them.
_KINDS: Final[dict[str, Literal["whole", "fraction", "text", "nothing"]]] = {
    "boolean": "whole",
    "integer": "whole",
    "floating": "fraction",
    "mixed-integer-float": "fraction",
    "decimal": "fraction",
    "string": "text",
    "empty": "nothing",
}


class Column(NamedTuple):
    """A feature column: its name; the categories of a text column (None: numbers); the fill.

    fill: what a missing value becomes, one number a feature: the mean over the training rows,
    which for a text column is each category's share of them.
    """

    name: str
    categories: tuple[str, ...] | None
    fill: tuple[float, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features that it becomes: `age`, or `colour=red`, `colour=green`."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)


class TableEncoder(NamedTuple):
    """How a table becomes arrays: made by `table`, kept with a model, used for later tables.

    columns: the feature columns in order. target: the target column. classes: the names of its
    labels 0, 1, ... (None: regression). missing, sep: as given to `table`.
    """

    columns: tuple[Column, ...]
    target: str
    classes: tuple[str, ...] | None
    missing: Missing
    sep: str | None

    @property
    def features(self) -> tuple[str, ...]:
        """The names of x's columns."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def task(self) -> Task:
        return "regression" if self.classes is None else "classification"

    def encode(self, source: Any) -> NDArray[np.float32]:
        """The features x, float32 (rows, features), of a DataFrame or of a CSV or Parquet file.

        Columns are found by name; others, the target among them, are left out. Errors: DataError,
        which names the column, if one is lacking, has another kind of values than in training, a
        category that training did not have, an infinity, or missing values with missing="error".
        """
        text = [column.name for column in self.columns if column.categories is not None]
        frame = _read(source, self.sep, text)
        names = [column.name for column in self.columns]
        _require(source, frame, names)
        if self.missing == "error":
            _refuse_missing(source, frame, names, "pass missing='mean' to table(), or fill them")
        parts = [_filled(_encode(source, frame[c.name], c), c.fill) for c in self.columns]
        return np.concatenate(parts, axis=1)

    def encode_target(self, source: Any) -> NDArray[Any]:
        """The target column y, (rows,): int64 labels, or float32 for regression.

        Errors: LabelError for a class that training did not have; DataError if the column is
        lacking, or values in it are missing or of another kind.
        """
        frame = _read(source, self.sep)
        _require(source, frame, [self.target])
        _refuse_missing(source, frame, [self.target], "remove those rows")
        series = frame[self.target]
        if self.classes is None:
            return _numbers(source, series)
        codes, names = _factor(source, series)
        known = {name: label for label, name in enumerate(self.classes)}
        if new := [name for name in names if name not in known]:
            raise LabelError(
                f"{_name(source)}: {_listed(new)} in the target {self.target!r} is none of the "
                f"{len(known)} classes of the training table: {_listed(self.classes)}"
            )
        return np.array([known[name] for name in names], np.int64)[codes]

    def to_dict(self) -> dict[str, Any]:
        """The encoder as plain dicts, lists, strings and numbers: what JSON can hold."""
        columns = tuple(column._asdict() for column in self.columns)
        return {"version": 1, **self._asdict(), "columns": columns}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TableEncoder":
        """The encoder that `to_dict` described; DataError if it is no such description."""
        try:
            if data["version"] != 1:
                raise DataError(
                    f"a table encoder of version {data['version']}; this groundup knows version 1"
                )
            return cls(
                columns=tuple(
                    Column(c["name"], _tuple(c["categories"]), tuple(c["fill"]))
                    for c in data["columns"]
                ),
                target=data["target"],
                classes=_tuple(data["classes"]),
                missing=data["missing"],
                sep=data["sep"],
            )
        except (KeyError, TypeError) as error:
            raise DataError(
                f"this is no table encoder's description ({type(error).__name__}: {error}): "
                "it takes what to_dict() gave"
            ) from error


class Table(NamedTuple):
    """`split, encoder = table(path)`."""

    split: Split
    encoder: TableEncoder


def table(
    source: Any,
    target: str | None = None,
    valid: float = 0.2,
    seed: int = 0,
    *,
    missing: Missing = "error",
    task: Task | None = None,
    drop: Sequence[str] = (),
    sep: str | None = None,
) -> Table:
    """A table as a Split, and the encoder that treats a later table the same way.

    source: a path ending in .csv, .tsv, .txt (each may add .gz) or .parquet, or a pandas
    DataFrame. A CSV file's first line names its columns; sep=None is a tab for .tsv and else a
    comma.
    target: a column's name, by default the last. Text, whole numbers and truth values are class
    labels, int64, numbered in sorted order (`encoder.classes`); fractional numbers are a
    regression's, float32; `task` says otherwise. y has the shape (n,).
    Features are all other columns but those in `drop`: numbers and truth values as float32, as
    they are; text one-hot, categories in sorted order. x has the shape (n, features).
    missing: "error" refuses missing values, "mean" puts the column's mean over the training rows
    there. In the target they are always refused.
    valid, seed: the share held out and its permutation; of classes each gives the same share.

    Scale x with `mean_std(x_train, axis=0)` and `normalize`: columns differ in size.

    Errors: DataNotFoundError without the file; MissingDependencyError without pandas; DataError,
    which names file and column, for a file that cannot be parsed or has no rows, an unknown
    column, missing or infinite values, dates and other values that are neither number nor text,
    and text with so many different values that it must be a name or free text.
    """
    if missing not in ("error", "mean"):
        raise DataError(f"missing={missing!r}: take 'error' or 'mean'")
    if task not in (None, "classification", "regression"):
        raise DataError(f"task={task!r}: take 'classification', 'regression' or None")
    frame = _read(source, sep)
    _require(source, frame, [*drop, *([] if target is None else [target])])
    columns = [str(name) for name in frame.columns if name not in drop]
    if len(columns) < 2 or target in drop:
        raise DataError(
            f"{_name(source)}: without drop={list(drop)} its columns are {_listed(columns)}, and a "
            "target and at least one feature are needed. If the columns were not taken apart, name "
            "the separator: sep=';'"
        )
    target = columns[-1] if target is None else target
    names = [name for name in columns if name != target]
    if nameless := [name for name in names if name.startswith("Unnamed: ")]:
        raise DataError(
            f"{_name(source)}: a column has no name. If it numbers the rows (as "
            f"DataFrame.to_csv does), leave it out: drop={nameless}"
        )
    _refuse_missing(source, frame, [target], "remove those rows")
    if missing == "error":
        _refuse_missing(source, frame, names, "pass missing='mean', or fill them")

    classes = _fit_classes(source, frame[target], task)
    draft = TableEncoder((), target, classes, missing, sep)
    y = draft.encode_target(frame)
    labels = np.zeros(len(y), np.int64) if classes is None else y
    train, held = split_rows(labels, valid, seed)
    fitted, parts = [], []
    for name in names:
        column = _fit_column(source, frame[name])
        raw = _encode(source, frame[name], column)
        if np.isnan(raw[train]).all():
            raise DataError(
                f"{_name(source)}: column {name!r} has no value in the training rows: "
                f"drop=[{name!r}]"
            )
        fill = tuple(np.nanmean(raw[train].astype(np.float64), axis=0).tolist())
        fitted.append(column._replace(fill=fill))
        parts.append(_filled(raw, fill))
    x = np.concatenate(parts, axis=1)
    return Table(Split(x[train], y[train], x[held], y[held]), draft._replace(columns=tuple(fitted)))


def _fit_classes(source: Any, series: Any, task: Task | None) -> tuple[str, ...] | None:
    kind = _kind(source, series)
    if task == "regression" or (task is None and kind == "fraction"):
        if kind == "text":
            raise DataError(
                f"{_name(source)}: the target {series.name!r} holds text, which no regression can "
                "learn: name another target or leave task= out"
            )
        return None
    names = _factor(source, series)[1]
    if len(names) < 2:
        raise DataError(
            f"{_name(source)}: the target {series.name!r} has the one class {names[0]!r}: there is "
            "nothing to tell apart"
        )
    if len(names) > _most_categories(len(series)):
        raise DataError(
            f"{_name(source)}: the target {series.name!r} has {len(names)} different values in "
            f"{len(series)} rows, too many for classes. If it is a quantity: task='regression'; "
            "else name another target"
        )
    return names


def _fit_column(source: Any, series: Any) -> Column:
    if _kind(source, series) != "text":
        return Column(series.name, None, ())
    categories = tuple(sorted(series.dropna().unique()))
    if len(categories) > _most_categories(len(series)):
        raise DataError(
            f"{_name(source)}: column {series.name!r} has {len(categories)} different texts in "
            f"{len(series)} rows, too many to be categories. If it is a name or free text, leave "
            f"it out: drop=[{series.name!r}]"
        )
    return Column(series.name, categories, ())


def _most_categories(rows: int) -> int:
    return min(1000, max(50, rows // 2))


def _encode(source: Any, series: Any, column: Column) -> NDArray[np.float32]:
    """The column's features, (rows, features); NaN where the value is missing."""
    if column.categories is None:
        return _numbers(source, series)[:, None]
    if _kind(source, series) not in ("text", "nothing"):
        raise DataError(
            f"{_name(source)}: column {column.name!r} holds {series.dtype}, and held text in "
            "training"
        )
    series = series.astype(object)
    codes = _pandas().Index(column.categories).get_indexer(series)
    absent = np.asarray(series.isna())
    new = (codes < 0) & ~absent
    if new.any():
        raise DataError(
            f"{_name(source)}: column {column.name!r} holds {_listed(sorted(set(series[new])))}, "
            f"which training did not have: it had {_listed(column.categories)}. Correct the value, "
            "or train again with it"
        )
    out = np.zeros((len(series), len(column.categories)), np.float32)
    rows = np.flatnonzero(~absent)
    out[rows, codes[rows]] = 1
    out[absent] = np.nan
    return out


def _numbers(source: Any, series: Any) -> NDArray[np.float32]:
    """A column of numbers as float32 (rows,), NaN where missing."""
    if _kind(source, series) == "text":
        raise DataError(
            f"{_name(source)}: column {series.name!r} holds text ({series.dropna().iloc[0]!r}), "
            "and numbers are needed, as in training"
        )
    with np.errstate(over="ignore"):
        out: NDArray[np.float32] = series.to_numpy(np.float64, na_value=np.nan).astype(np.float32)
    infinite = np.flatnonzero(np.isinf(out))
    if len(infinite):
        raise DataError(
            f"{_name(source)}: column {series.name!r} has {len(infinite)} infinite values, or "
            f"values too large for float32 (the first: {series.iloc[infinite[0]]!r} in row "
            f"{infinite[0] + 1}): correct them or remove those rows"
        )
    return out


def _filled(raw: NDArray[np.float32], fill: tuple[float, ...]) -> NDArray[np.float32]:
    return np.where(np.isnan(raw), np.asarray(fill, np.float32), raw)


def _factor(source: Any, series: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The values as codes, and the names of the codes: sorted as numbers or as text."""
    kind = _kind(source, series)
    codes, values = _pandas().factorize(series.astype(object), sort=True)
    if kind == "fraction":
        if any(value != int(value) for value in values):
            raise DataError(
                f"{_name(source)}: the target {series.name!r} holds fractional numbers "
                f"({_listed(values)}), which are no classes: leave task= out"
            )
        values = [int(value) for value in values]
    return np.asarray(codes, np.int64), tuple(str(value) for value in values)


def _kind(source: Any, series: Any) -> Literal["whole", "fraction", "text", "nothing"]:
    """What a column holds, missing values aside."""
    pd = _pandas()
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(object)
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind not in _KINDS:
        raise DataError(
            f"{_name(source)}: column {series.name!r} holds {kind} values ({series.dtype}; the "
            f"first is {series.dropna().iloc[0]!r}); groundup takes numbers, truth values and "
            f"text. Convert it, or leave it out: drop=[{series.name!r}]"
        )
    return _KINDS[kind]


def _read(source: Any, sep: str | None, text: Sequence[str] = ()) -> Any:
    """The table as a DataFrame with text for its columns' names; `text` columns read as text."""
    pd = _pandas()
    frame = source if isinstance(source, pd.DataFrame) else _read_file(pd, source, sep, text)
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{_name(source)}: two columns are named {twice!r}: rename one")
    if len(frame) == 0:
        raise DataError(f"{_name(source)} has no rows (columns: {_listed(list(frame.columns))})")
    return frame


def _read_file(pd: Any, source: Any, sep: str | None, text: Sequence[str]) -> Any:
    if not isinstance(source, str | os.PathLike):
        raise DataError(
            f"a table is a path or a pandas DataFrame, and this is a {type(source).__name__}"
        )
    path = os.path.expanduser(os.fspath(source))
    if not os.path.isfile(path):
        raise DataNotFoundError(f"there is no file {path}")
    suffix = os.path.splitext(path.lower().removesuffix(".gz"))[1]
    if suffix not in (".csv", ".tsv", ".txt", ".parquet"):
        raise DataError(f"{path}: a table's name ends in .csv, .tsv, .txt (or .gz) or .parquet")
    if suffix == ".parquet":
        optional("pyarrow", "tables", "Reading Parquet files")
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(
                path,
                sep=sep or ("\t" if suffix == ".tsv" else ","),
                dtype=dict.fromkeys(text, str),
                index_col=False,
                low_memory=False,
            )
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    except (pd.errors.ParserWarning, OSError, ValueError, EOFError, zlib.error) as error:
        reason = str(error).strip() or type(error).__name__
        raise DataError(
            f"{path} cannot be read as a table ({reason}). Check that it is whole, that the first "
            "line names the columns and that every row has as many values"
        ) from error
    if numeric := [name for name in frame.columns if re.fullmatch(r"-?\d*\.\d+", name)]:
        raise DataError(
            f"{path}: the first line must name the columns, and there is {numeric[0]!r} in it: "
            "put a line of names on top"
        )
    return frame


def _require(source: Any, frame: Any, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame.columns:
            import difflib

            close = difflib.get_close_matches(name, list(frame.columns), 1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise DataError(
                f"{_name(source)} has no column {name!r}. {hint}Its columns: "
                f"{_listed(list(frame.columns))}"
            )


def _refuse_missing(source: Any, frame: Any, names: Sequence[str], fix: str) -> None:
    counts = frame[list(names)].isna().sum()
    if counts.any():
        found = ", ".join(f"{n} of {len(frame)} in {name!r}" for name, n in counts.items() if n)
        raise DataError(f"{_name(source)} has missing values: {found}. Fix: {fix}")


def _name(source: Any) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "the DataFrame"


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(repr(value) for value in values[:8])
    return shown if len(values) <= 8 else f"{shown} and {len(values) - 8} more"


def _tuple(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _pandas() -> Any:
    return optional("pandas", "tables", "Reading tables")
