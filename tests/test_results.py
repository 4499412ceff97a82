"""Every figure in the tables of the documents has a file in `results/` that says where it is from."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from vacuous import nonempty

ROOT = Path(__file__).parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results.md"
FILES = sorted((ROOT / "results").glob("*.json"))
MEASURED = {path.stem: json.loads(path.read_text()) for path in FILES}
TEXT = ("title", "command", "commit", "machine", "date", "note")
REQUIRED = {*TEXT, "seed", "versions", "columns", "rows"}
SHOWN = {"name": str, "head": str, "digits": int | list, "thousands": bool, "best": str, "inside": str}
COUNTED = {"call", "run", "epochs"}  # columns that tell measurements apart
NOT_MEASURED = {"3.11", "2.0", "4.0"}  # releases of Python and of a licence


def load(name: str) -> ModuleType:
    """A module of the benchmarks."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load("tables")


def check_form(result: dict[str, Any]) -> None:
    """Keys and types of a file."""
    assert set(result) - {"section"} == REQUIRED
    for key in TEXT:
        assert isinstance(result[key], str | None), key
    for key in ("title", "note", "date"):
        assert result[key], key
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])
    assert result["commit"] is None or re.fullmatch(r"[0-9a-f]{7,40}(\+changes)?", result["commit"])
    assert isinstance(result["seed"], int | list | None)
    assert "torch" in result["versions"]
    assert all(isinstance(value, str | None) for value in result["versions"].values())
    names = [column["name"] for column in result["columns"]]
    assert len(set(names)) == len(names)
    for column in nonempty(result["columns"]):
        assert set(column) <= set(SHOWN)
        assert all(isinstance(value, SHOWN[key]) for key, value in column.items())
    assert "inside" not in result["columns"][0]
    assert result["rows"]
    for row in result["rows"]:
        assert len(row) == len(names)
        for cell in row:
            assert isinstance(cell, int | float | str | None)
            assert not isinstance(cell, bool)
            assert not (isinstance(cell, str) and re.fullmatch(r"[*\s]*-?\d[\d,.]*%?[*\s]*", cell)), f"{cell} as text"


def shown(result: dict[str, Any]) -> set[str]:
    """Its figures, written as its columns say."""
    columns, rows = result["columns"], result["rows"]
    cells = [
        (column["name"], value, text.strip("*"))
        for row, texts in zip(rows, tables.figures(columns, rows), strict=True)
        for column, value, text in zip(columns, row, texts, strict=True)
    ]
    return {text for name, value, text in cells if isinstance(value, int | float) and name not in COUNTED}


def prose(page: Path) -> str:
    """A page without its tables, code and comments."""
    text = re.sub(r"```.*?```", "", tables.MARKED.sub("", page.read_text()), flags=re.DOTALL)
    text = re.sub(r"`[^`]*`", "", text)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def section(title: str) -> str:
    """The text under a heading of docs/results.md, its tables left out."""
    parts = re.split(r"^## (.*)$", tables.MARKED.sub("", RESULTS.read_text()), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[title]


@pytest.mark.parametrize("name", MEASURED)
def test_files_have_their_keys(name: str) -> None:
    check_form(MEASURED[name])
    assert tables.dump(MEASURED[name]) == (ROOT / "results" / f"{name}.json").read_text()


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_tables_are_made_from_the_files(page: Path) -> None:
    text = page.read_text()
    assert tables.differences(text) == []
    assert tables.written(text) == text
    assert text.count("<!-- results/") == text.count("<!-- end -->") == len(tables.MARKED.findall(text))


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_tables_with_figures_have_a_file(page: Path) -> None:
    lines = tables.MARKED.sub("", page.read_text()).splitlines()
    assert [line for line in lines if line.lstrip().startswith("|") and re.search(r"\d", line)] == []


def test_each_file_stands_in_the_documents() -> None:
    """As a table, or, where it names a section, in that section's text with every figure."""
    marked = [name for page in tables.PAGES for name, _ in tables.MARKED.findall(page.read_text())]
    assert sorted(marked) == sorted(name for name, result in MEASURED.items() if "section" not in result)


@pytest.mark.parametrize("name", [name for name, result in MEASURED.items() if "section" in result])
def test_figures_of_a_file_stand_in_its_section(name: str) -> None:
    figures = set(re.findall(r"\d+(?:[.,]\d+)*", section(MEASURED[name]["section"])))
    assert shown(MEASURED[name]) - figures == set()


def test_figures_in_the_text_of_the_readme_have_a_file() -> None:
    """Every number with a point, and every percentage."""
    claimed = set(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])|\d+(?= ?%)", prose(README))) - NOT_MEASURED
    assert claimed
    assert claimed - set().union(*map(shown, MEASURED.values())) == set()


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_one_changed_digit_is_found(page: Path) -> None:
    text = page.read_text()
    for match in nonempty(tables.MARKED.finditer(text)):
        place = match.start() + max(digit.start() for digit in re.finditer(r"\d", match[0]))
        changed = text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
        assert tables.differences(changed) == [match[1]]
        assert tables.written(changed) == text


def test_figures_are_written_as_their_columns_say() -> None:
    columns = [
        {"name": "what", "head": ""},
        {"name": "speed", "digits": 1, "thousands": True, "best": "max"},
        {"name": "again", "digits": [0, 2], "inside": " ({})"},
    ]
    assert tables.table(columns, [["a", 1234.56, 2], [None, 3, None]]) == [
        "| | speed |",
        "|---|---|",
        "| a | **1,234.6** (2) |",
        "| | 3.0 |",
    ]


def test_benchmarks_write_such_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "train.py"), "/a/folder/images", "--only", "tiny atto"])
    path = tmp_path / "speed.json"
    columns = [{"name": "case"}, {"name": "images/s", "digits": 1}]
    load("timing").write_result(
        path, title="Speed", columns=columns, rows=[["tiny", 4.7]], peers=("timm",), note="once"
    )
    result = json.loads(path.read_text())
    check_form(result)
    assert result["command"] == "python benchmarks/train.py images --only 'tiny atto'"
    assert set(result["versions"]) == {"torch", "timm"}
    assert result["rows"] == [["tiny", 4.7]]
