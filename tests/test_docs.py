"""What the documents promise is there: commands parse, files exist, names import."""

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vacuous import nonempty

import convnext
from convnext import cli
from convnext.api import train
from convnext.cli.command import Parser
from convnext.cli.parser import COMMANDS
from convnext.deploy.benchmark import benchmark_rows
from convnext.deploy.sizes import size_rows
from convnext.printing import flag_of
from convnext.runs.resume import RESUME_MAY_CHANGE
from convnext.tasks.recipes import RECIPES
from convnext.weights.zoo import list_weights

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")})
GUIDES = [page for page in PAGES if page.stem in ("README", "data", "first-ten-minutes", "how-to", "weights")]
OF_OTHERS = {  # options of docker, torchrun and hf
    *("--build-arg", "--cpus", "--cpuset-cpus", "--stop-timeout", "--repo-type"),
    *("--nnodes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint"),
}


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


def without_blocks(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def inline_code(page: Path) -> list[str]:
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", without_blocks(page))]


def anchors(page: Path) -> set[str]:
    """The names by which a page's headings are linked, as GitHub and mkdocs make them of headings that differ."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", without_blocks(page))
    assert [target for target in targets if not leads_somewhere(page, target)] == []


def leads_somewhere(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = page.parent / name if name else page
    return file.exists() and (not anchor or anchor in anchors(file))


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"(?<![\w/])(?:docs|tests|benchmarks)/[\w./-]+\.(?:md|py)\b", page.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


def flags_by_command() -> dict[str, set[str]]:
    return {command.name: set(flags_of(command)) for command in COMMANDS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_sentences_have_the_options_that_they_name(page: Path) -> None:
    """They leave out what a whole command has to say, so that they cannot be parsed."""
    known = flags_by_command()
    assert [span for span in inline_code(page) if not names_what_is_there(span, known)] == []


def names_what_is_there(span: str, known: dict[str, set[str]]) -> bool:
    """Whether a piece of code is no command, or one, or a group of commands, with these options."""
    found = re.match(r"convnext ([a-z][a-z-]*)(?: ([a-z]+))?", span)
    if found is None:
        return True
    name = f"{found[1]} {found[2]}" if f"{found[1]} {found[2]}" in known else found[1]
    own = [flags for command, flags in known.items() if command == name or command.startswith(f"{name} ")]
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", span))
    return bool(own) and flags <= set().union(*own) | {"--help"}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_options_in_sentences_are_those_of_a_command(page: Path) -> None:
    known = set().union(*flags_by_command().values())
    flags = {flag for span in inline_code(page) for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", span)}
    assert flags - known - OF_OTHERS == set()


def test_modules_that_are_run_can_be_run() -> None:
    """`-m convnext`, on a line of torchrun's or in YAML."""
    modules = {name for page in PAGES for name in re.findall(r"-m,? (convnext[\w.]*)", page.read_text())}
    for name in nonempty(modules):
        assert importlib.util.find_spec(f"{name}.__main__"), name


def python_code() -> list[str]:
    """Blocks of Python, and what stands in a sentence and is Python with a name of the package."""
    blocks = [code for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    spans = [span for page in PAGES for span in inline_code(page) if re.match(r"convnext\.\w+(?!\S*:)", span)]
    return [*blocks, *(span for span in spans if is_python(span))]


def is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def value_of(node: ast.expr) -> Any:
    """What `convnext.a.b` is; None for expressions that do not begin so. Raises what a reader would see."""
    names = ast.unparse(node).split(".")
    if names[0] != "convnext" or not all(name.isidentifier() for name in names):
        return None
    value: Any = convnext
    for at, name in enumerate(names[1:], 2):
        is_module = inspect.ismodule(value) and not hasattr(value, name)
        value = importlib.import_module(".".join(names[:at])) if is_module else getattr(value, name)
    return value


def names_and_calls(code: str) -> Iterator[tuple[Any, ast.Call | None]]:
    """Each name of the package, and its call."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("convnext"):
            for alias in node.names:
                yield getattr(importlib.import_module(str(node.module)), alias.name), None
        elif isinstance(node, ast.Attribute):
            yield value_of(node), None
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield value_of(node.func), node


def test_python_in_the_documents_names_what_is_there_and_calls_it_right() -> None:
    called = 0
    for code in nonempty(python_code()):
        for value, call in names_and_calls(code):
            if value is None or call is None or any(ast.unparse(each) in ("...", "**kwargs") for each in call.args):
                continue
            inspect.signature(value).bind(*call.args, **{str(each.arg): each.value for each in call.keywords})
            called += 1
    assert called > 15


def test_extras_exist() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        name
        for page in PAGES
        for names in re.findall(r"pip install '\.\[([\w,]+)\]'", page.read_text())
        for name in names.split(",")
    }
    assert named
    assert named == set(declared), "each is told, and no other"


def test_what_may_change_in_a_resumed_run_is_told() -> None:
    told = (ROOT / "docs" / "how-to.md").read_text().split("## Go on after an interruption")[1].split("\n## ")[0]
    assert [name for name in nonempty(RESUME_MAY_CHANGE) if f"`{flag_of(name)}`" not in told] == []


def test_variables_of_the_environment_are_read() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = {name for page in GUIDES for name in re.findall(r"\bCONVNEXT_[A-Z_]+", page.read_text())}
    assert named
    assert {name for name in named if not re.search(rf"\b{name}\b", source)} == set()


def test_the_reference_has_every_public_name() -> None:
    listed = re.findall(r"^::: convnext\.(\w+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(set(convnext.__all__) - {"__version__"})


PASSED_ON = (
    *((each, train) for each in (convnext.pretrain, convnext.train_classifier, convnext.train_detector)),
    *((each, train) for each in (convnext.train_segmenter, convnext.train_depth_estimator)),
    (convnext.benchmark, benchmark_rows),
    (convnext.measure_models, size_rows),
)
"""Public functions with arguments that another takes, which is not on the page of names."""


@pytest.mark.parametrize(("function", "taking"), PASSED_ON)
def test_arguments_that_are_passed_on_are_documented(function: Any, taking: Any) -> None:
    told = inspect.getdoc(function)
    names = [name for name in inspect.signature(taking).parameters if name not in ("task", "began")]
    assert [name for name in nonempty(names) if f"\n    {name}: " not in str(told)] == []


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
