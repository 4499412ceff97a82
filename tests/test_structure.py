"""What keeps the package one that a stranger finds their way in."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest
from vacuous import vacuous

TESTS = Path(__file__).parent
PACKAGE = Path(__file__).parents[1] / "src" / "convnext"
FILES = sorted(PACKAGE.rglob("*.py"))


def test_files_are_short() -> None:
    assert {str(f.relative_to(PACKAGE)): n for f in FILES if (n := len(f.read_text().splitlines())) >= 400} == {}


def names_defined(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines, but for what every module has."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            inner = [part for target in targets for part in ast.walk(target)]
        case ast.AnnAssign(target=target):
            inner = [target]
        case _:
            return []
    return [part.id for part in inner if isinstance(part, ast.Name) and part.id != "log"]


def test_public_names_are_defined_once() -> None:
    places = defaultdict(set)
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            for name in names_defined(node):
                if not name.startswith("_"):
                    places[name].add(str(file.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "misc"])
def test_no_file_is_a_drawer(word: str) -> None:
    assert not [file for file in FILES if word in (file.stem, file.parent.name)]


def test_tasks_are_told_apart_by_the_registry_alone() -> None:
    """Nothing outside a task's folder names another task in a comparison."""
    names = {"classify", "depth", "detect", "segment", "pretrain"}
    compared = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare):
                values = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                if names & {value for value in values if isinstance(value, str)}:
                    compared.append(f"{file.relative_to(PACKAGE)}:{node.lineno}")
    assert compared == []


def test_no_assertion_is_about_a_collection_that_may_be_empty() -> None:
    """Which is true of a test that has found nothing; `vacuous.nonempty` says that there is something."""
    found = [
        f"{path.relative_to(TESTS)}:{each}"
        for path in sorted(TESTS.rglob("*.py"))
        for each in vacuous(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("assert all(x > 0 for x in found())", ["3: found()"]),
        ("for x in found():\n        assert x > 0", ["3: found()"]),
        ("for x in found():\n        for y in (1, 2):\n            assert x > y", ["3: found()"]),
        ("for x in (1, 2):\n        for y in x.found():\n            assert y", ["4: x.found()"]),
        ("rows = found()\n    assert all(rows)\n    assert all(x for x in rows)", ["5: rows"]),
        ("rows = [x for x in (1, 2) if x > 3]\n    assert all(x for x in rows)", ["4: rows"]),
        ("for x in nonempty(found()):\n        assert x > 0", []),
        ("rows = found()\n    assert rows\n    assert all(x for x in rows)", []),
        ("rows = found()\n    assert len(rows) == 3\n    for x in enumerate(rows):\n        assert x", []),
        ("for x in (1, 2):\n        assert x > 0", []),
        ("for x in range(20):\n        assert x >= 0", []),
        ("for x, y in zip(found(), (1, 2), strict=True):\n        assert x == y", []),
        ("rows = found()\n    for i in range(len(rows)):\n        assert rows[i]", ["4: range(len(rows))"]),
        ("rows = found()\n    assert len(rows) > 0\n    for i in range(len(rows)):\n        assert rows[i]", []),
        ("for x in found():\n        print(x)", []),
        ("assert all(rows)", []),
    ],
)
def test_assertions_about_nothing_are_found(lines: str, found: list[str]) -> None:
    assert [str(each) for each in vacuous(f"CONSTANT = 1\ndef test():\n    {lines}\n")] == found
