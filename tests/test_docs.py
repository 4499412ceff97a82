"""What the documents promise is there: commands parse, files exist, names import."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import convnext
from convnext import cli
from convnext.cli.command import Parser
from convnext.cli.parser import COMMANDS
from convnext.tasks.recipes import RECIPES
from convnext.weights.zoo import list_weights

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def lines_of(page: Path) -> list[str]:
    return page.read_text().replace("\\\n", " ").splitlines()


def commands() -> list[str]:
    lines = {line.strip() for page in PAGES for line in lines_of(page) if line.startswith("    ")}
    found = [line.split("#")[0].split("|")[-1].strip() for line in lines if "convnext " in line]
    return sorted(line for line in found if line.startswith("convnext "))


@pytest.mark.parametrize("command", commands())
def test_commands_in_the_documents_parse(command):
    cli.build_parser().parse_args(shlex.split(command)[1:])


def test_there_are_commands_to_check():
    assert len(commands()) >= 8
    assert len(commands_in_docstrings()) >= len(RECIPES)


def commands_in_docstrings() -> list[str]:
    """Of every module: what stands behind "Command:", or as a line of its own."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = (ast.get_docstring(node) or "").replace("\\\n", " ")
                found |= {m[1] for m in re.finditer(r"^ *(?:Command: *)?(convnext [a-z]+ .*)$", text, re.MULTILINE)}
    return sorted(found)


@pytest.mark.parametrize("command", commands_in_docstrings())
def test_commands_in_docstrings_parse_and_name_weights_that_exist(command):
    cli.build_parser().parse_args(shlex.split(command)[1:])
    assert not set(re.findall(r"--init (convnext\w+)", command)) - {entry.name for entry in list_weights()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_published_names_in_the_documents_exist():
    known = {entry.name for entry in list_weights()}
    named = {name for page in PAGES for name in re.findall(r"--init (convnext\w+)", page.read_text())}
    assert named
    assert named <= known


def test_the_file_tree_of_the_readme_is_the_real_one():
    tree = (ROOT / "README.md").read_text().split("src/convnext/\n")[1].split("    tests/")[0]
    named = set(re.findall(r"\b(\w+(?:\.py|/))", "\n".join(line[:24] for line in tree.splitlines())))
    package = ROOT / "src" / "convnext"
    real = {path.name + ("/" if path.is_dir() else "") for path in package.iterdir() if not path.name.startswith("_")}
    assert named == real - {"py.typed", "errors.py"}


def test_public_names_are_there():
    assert all(hasattr(convnext, name) for name in convnext.__all__)


def test_options_that_take_the_place_of_others_exist():
    known = {flag for command in COMMANDS for flag in flags_of(command)}
    rows = [line for line in (ROOT / "docs" / "migration.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    for row in rows:
        ours = row.strip("|").split(" | ")[-1]
        assert set(re.findall(r"--[a-z-]+", ours)) <= known, row


def flags_of(command):
    parser = Parser(add_help=not command.own_help)
    command.options(parser)
    return parser._option_string_actions
