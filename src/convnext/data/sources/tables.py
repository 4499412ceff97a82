"""Tables of path, label and split: CSV (with commas or semicolons), TSV, JSONL or Parquet."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convnext.data.sources.documents import read_text_file
from convnext.data.sources.records import DataListing, ImageRecord, class_name, in_class_order, read_class_names
from convnext.data.splits import PART_NAMES, UNDIVIDED, part_of_name
from convnext.errors import InputError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
_PATH_COLUMNS = ("path", "file", "filename", "image", "file_name")
_LABEL_COLUMNS = ("label", "labels", "class", "category")
_COLUMNS = (*_PATH_COLUMNS, *_LABEL_COLUMNS[:2], "split")
"""Columns that have small letters here, however they are written; of others, case is kept."""
_NUMBER = re.compile(r"-?\d{1,18}")

MOST_ROWS_A_BYTE = 10
"""Rows of a Parquet file for each of its bytes: more are rows that repeat, made to fill the memory."""


def read_table(table: Path, classes: Sequence[str] | None, multi_label: bool) -> DataListing:
    """The rows of `table`: columns path (or file, filename, image, file_name), label (or labels, class, category), and
    optionally split.

    Paths are relative to the table's folder, with slashes of either kind. Several labels of a row stand between `|` or
    `;`, or in a Parquet list.
    Labels are names of `classes.txt` beside the table (one per line), else of `classes`; if they are not and all are
    integers, they are positions in that list. Without a list, integers are names like others. Split is the name of a
    part (`splits.PART_NAMES`); without the column, and where all rows are of train, rows are undivided. Errors name the
    row, the header being row 1.
    """
    header, rows = _read(table)
    label_column = _column(table, header, _LABEL_COLUMNS)
    keys = _paths(table, header, rows)
    labels = {number: _labels(row[label_column], multi_label or label_column == "labels") for number, row in rows}
    for number, names in labels.items():
        if len(names) != 1 and not multi_label:
            raise InputError(
                f"{table}: row {number}: {len(names) or 'no'} labels, expected one (or a multi-label task)"
            )
    labels, known = _resolve(table, labels, classes)

    parts = _given_parts(table, rows) if "split" in header else [UNDIVIDED] * len(rows)
    sources = [str(table.parent / key) for key in keys]
    return DataListing([ImageRecord(*row) for row in zip(sources, labels.values(), parts, keys, strict=True)], known)


def read_unlabelled_table(table: Path) -> DataListing:
    """The rows of a table whose labels, if it has any, do not count; of split, as `read_table` has it, but that what is
    undivided is of train."""
    header, rows = _read(table)
    keys = _paths(table, header, rows)
    parts = _given_parts(table, rows) if "split" in header else [UNDIVIDED] * len(rows)
    return DataListing(
        [ImageRecord(str(table.parent / key), (), part or "train", key) for key, part in zip(keys, parts, strict=True)],
        (),
    )


def read_columns(
    table: Path, *, may_be_empty: bool = False, errors: str = "strict"
) -> list[tuple[str, dict[str, Any]]]:
    """Path and other cells of every row of `table`, which needs no labels. `InputError` for what is no table, and for
    one without rows unless it may be empty; `errors` says what becomes of text that is not UTF-8."""
    header, rows = _read(table, every_column=True, may_be_empty=may_be_empty, errors=errors)
    paths, column = _paths(table, header, rows), _column(table, header, _PATH_COLUMNS)
    others = [{name: cell for name, cell in row.items() if name != column} for _, row in rows]
    return list(zip(paths, others, strict=True))


def rows_of_images(table: Path, sources: Sequence[str], data: str) -> dict[int, dict[str, Any]]:
    """The cells of a table by the place of their image: by its path from the table's or the data's folder on; else, if
    no file lies there, by a path's last parts that no other image has."""
    paths = {str(Path(source).absolute()): place for place, source in enumerate(sources)}
    ends: dict[str, list[int]] = {}
    for place, source in enumerate(sources):
        parts = Path(source).parts
        for count in range(1, len(parts) + 1):
            ends.setdefault("/".join(parts[-count:]), []).append(place)
    exact: dict[int, dict[str, Any]] = {}
    alike: dict[int, dict[str, Any]] = {}
    for path, row in read_columns(table):
        whole = [str((folder / path).absolute()) for folder in (table.parent, Path(data))]
        places, found = {paths[each] for each in whole if each in paths}, exact
        if not places and not any(os.path.isfile(each) for each in whole):  # one that is there is another image
            places, found = set(ends.get("/".join(Path(path).parts), [])), alike
        if len(places) == 1:
            found[places.pop()] = row
    return alike | exact


def _read(
    table: Path, *, every_column: bool = False, may_be_empty: bool = False, errors: str = "strict"
) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """The header, and the rows with their numbers, at least one unless it may be empty; of Parquet, the columns that
    are known or all."""
    if not table.is_file():
        raise InputError(f"{table} is not a file that can be read as a table")
    match table.suffix.lower():
        case ".parquet":
            header, rows = _read_parquet(table, every_column)
        case ".jsonl" | ".ndjson":
            header, rows = _read_jsonl(table)
        case _:
            header, rows = _read_csv(table, errors)
    if may_be_empty and not rows and not header:
        return ["path"], []
    _column(table, header, _PATH_COLUMNS)
    if not rows and not may_be_empty:
        raise InputError(f"{table}: no rows under the header")
    return header, rows


def _paths(table: Path, header: list[str], rows: list[tuple[int, dict[str, Any]]]) -> list[str]:
    """The paths of all rows, as they are written."""
    column = _column(table, header, _PATH_COLUMNS)
    for number, row in rows:
        path = row[column]
        if path is not None and not isinstance(path, str):
            raise InputError(f"{table}: row {number}: column {column!r} holds {type(path).__name__}, not a path")
        if not path:
            raise InputError(f"{table}: row {number}: empty path")
        if "\0" in path:
            raise InputError(f"{table}: row {number}: a path cannot hold the character NUL")
    return [_there(table, row[column]) for _, row in rows]


def _there(table: Path, path: str) -> str:
    """A path as it is written, or as Windows writes it where only that leads to a file."""
    other = path.replace("\\", "/")
    return path if other == path or (table.parent / path).exists() else other


def has_labels(table: Path) -> bool:
    """Whether a table has a column of labels. `InputError` for what is no table."""
    header, _ = _read(table)
    return any(name.lower() in _LABEL_COLUMNS for name in header)


def _read_jsonl(table: Path) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    header: dict[str, None] = {}
    rows = []
    for number, line in enumerate(read_text_file(table).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{table}: row {number}: not an object of JSON")
        rows.append((number, {_known_name(name): value for name, value in row.items()}))
        header |= dict.fromkeys(rows[-1][1])
    return list(header), [(number, {name: row.get(name) for name in header}) for number, row in rows]


def _read_csv(table: Path, errors: str) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    try:
        with open(table, newline="", encoding="utf-8-sig", errors=errors) as file:
            first = file.readline()
            file.seek(0)
            lines = list(csv.reader(file, delimiter=_delimiter(table, first)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not a table in UTF-8 text ({error})") from None
    header = [_known_name(name) for name in lines[0]] if lines else []
    _refuse_twins(table, header)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        if len(line) != len(header):
            raise InputError(f"{table}: row {number}: {len(line)} fields under a header of {len(header)}")
        rows.append((number, dict(zip(header, map(str.strip, line), strict=True))))
    return header, rows


def _delimiter(table: Path, first: str) -> str:
    """Separator of the columns, by the first line: of CSV, a comma, if there is one."""
    if table.suffix.lower() == ".tsv":
        return "\t"
    return next((each for each in ",;\t" if each in first), ",")


def _read_parquet(table: Path, every_column: bool) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(table) as file:
            names = list(file.schema_arrow.names)
            header = [_known_name(name) for name in names]
            _refuse_twins(table, header)
            if file.metadata.num_rows > MOST_ROWS_A_BYTE * table.stat().st_size:
                raise InputError(
                    f"{table}: {file.metadata.num_rows} rows in {table.stat().st_size} bytes are no images"
                )
            read = (*_COLUMNS, *_LABEL_COLUMNS)
            wanted = [n for n, known in zip(names, header, strict=True) if every_column or known.lower() in read]
            rows = file.read(columns=wanted).to_pylist()
            return header, [(n, {_known_name(k): v for k, v in row.items()}) for n, row in enumerate(rows, start=2)]
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # dates that Python lacks, bad UTF-8
        raise InputError(f"{table}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _known_name(column: str) -> str:
    """The name of a column; one that is read here in small letters, however it is written."""
    name = column.strip()
    return name.lower() if name.lower() in _COLUMNS else name


def _refuse_twins(table: Path, header: list[str]) -> None:
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{table}: column {name!r} appears twice in the header")


def _column(table: Path, header: list[str], names: tuple[str, ...]) -> str:
    for name in names:
        if found := [each for each in header if each.lower() == name]:
            return found[0]
    raise InputError(f"{table}: no column {' or '.join(names)}; found {', '.join(header) or 'nothing'}")


def _labels(value: Any, several: bool) -> tuple[str, ...]:
    """The labels in one cell, without repeats."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # how Parquet gives integers with gaps
    if isinstance(value, list | tuple):
        parts = [str(part) for part in value]
    else:
        text = "" if value is None else str(value)
        parts = re.split(r"[|;]", text) if several else [text]
    return tuple(dict.fromkeys(class_name(part.strip()) for part in parts if part.strip()))


def _resolve(
    table: Path, labels: dict[int, tuple[str, ...]], classes: Sequence[str] | None
) -> tuple[dict[int, tuple[str, ...]], tuple[str, ...]]:
    """Labels as class names, and the names of all classes."""
    beside = table.parent / "classes.txt"
    listed = beside.is_file()
    if listed:
        classes = read_class_names(beside)
    used = in_class_order(label for names in labels.values() for label in names)
    if classes is not None and set(used) <= set(classes):
        return labels, tuple(classes)
    if listed and classes is not None and not all(_NUMBER.fullmatch(label) for label in used):
        number, label = next((n, label) for n in labels for label in labels[n] if label not in classes)
        raise InputError(f"{table}: row {number}: label {label!r} is not in {beside}")
    if classes is None or not all(_NUMBER.fullmatch(label) for label in used):
        return labels, used
    for number, names in labels.items():
        for label in names:
            if not 0 <= int(label) < len(classes):
                raise InputError(f"{table}: row {number}: label {label} is outside 0..{len(classes) - 1}")
    return {number: tuple(classes[int(label)] for label in names) for number, names in labels.items()}, tuple(classes)


def _given_parts(table: Path, rows: list[tuple[int, dict[str, Any]]]) -> list[str]:
    parts = []
    for number, row in rows:
        name = str(row["split"] or "").strip()
        part = part_of_name(name)
        if part is None:
            known = ", ".join(name for names in PART_NAMES.values() for name in names)
            raise InputError(f"{table}: row {number}: split {name.lower()!r} is none of {known}")
        parts.append(part)
    return parts if set(parts) != {"train"} else [UNDIVIDED] * len(parts)
