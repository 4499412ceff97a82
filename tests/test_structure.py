"""What keeps the package one that a stranger finds their way in."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

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
