"""Put one small fault at a time into the package, and see whether the tests nearest to it fail.

    python benchmarks/mutants.py [--part inference data …] [--count 20] [--seconds 90] [--seed 0] [--jobs 1] [--again]
        [--out runs/mutants.jsonl] [--covering runs/covering.json] [--json FILE]

A mutant is one change on a random line of a part: another comparison, operator, number or truth, a condition turned
round, a lost return value, a lost or exchanged argument. Messages, annotations and docstrings stay as they are. The
package is copied for each, and the tests run on the copy, up to the first that fails: the quickest that run the line,
where `covering.py` has found them (after the quick ones of its part, where many do), then those of the changed file by
name, the quick ones of its part, those that import it, those of its folder and its part. A mutant survives whose tests
pass, or take more than so many seconds of a processor. What is done stands in a file, a line a mutant, and is not done
again: a run that was stopped goes on, and a larger --count adds to it. --again tries the survivors again, after tests
were added; the table then says how many survived at first. At the end the tests that failed run without a mutant: one
that fails there too is named, and nothing it killed counts.

mutmut 3 changes functions alone, and the recipes' tables stand outside; cosmic-ray has one command of tests for all.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil
from covering import Covering, read_covering
from timing import write_result

ROOT = Path(__file__).parents[1]
PACKAGE, TESTS = ROOT / "src" / "convnext", ROOT / "tests"
APART = ("cuda/", "faults/")  # folders of tests that need a GPU, or kill runs for minutes


class Part(NamedTuple):
    """A part of the package.

    Args:
        files: a pattern of the beginning of their paths in the package.
        quick: how the paths of tests begin that know much and take little.
        tests: folders of its tests.
    """

    files: str
    quick: tuple[str, ...]
    tests: tuple[str, ...]


MEASURES = r"analysis/|tasks/.*(metrics|evaluate|matching|quality|subgroups|robustness)\w*\.py"
KNOWN = "tasks/test_known_answers.py"
PARTS = {
    "inference": Part(r"inference/", ("inference/test_known",), ("inference/", "deploy/")),
    "metrics": Part(MEASURES, (KNOWN,), ("analysis/", "tasks/")),
    "recipes": Part(r"tasks/.*recipes", ("tasks/test_recipes", "tasks/test_own_recipes", "test_pub"), ("tasks/",)),
    "tasks": Part(r"tasks/", (KNOWN, "cli/test_help"), ("tasks/",)),
    "data": Part(r"data/", (), ("data/",)),
    "train": Part(r"train/", (), ("train/",)),
    "weights": Part(r"weights/", (), ("weights/",)),
    "deploy": Part(r"deploy/", ("deploy/serve/test_known", "cli/test_help"), ("deploy/",)),
}
"""A file is of the first part whose pattern its path begins with."""


def part_of(file: str) -> str | None:
    """The part that a file of the package is of."""
    return next((name for name, part in PARTS.items() if re.match(part.files, file)), None)


OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
}  # fmt: skip


stopped = threading.Event()
"""Whether the program was told to end: no test goes on without it."""


class Mutant(NamedTuple):
    """A change: the lines of a file from `start` to before `end`, and what stands there instead."""

    file: str
    line: int
    start: int
    end: int
    before: str
    after: str

    def applied(self, text: str) -> str:
        """The file's text with it; `start` and `end` are bytes."""
        content = text.encode()
        return (content[: self.start] + self.after.encode() + content[self.end :]).decode()


def replaced(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST | None]]:
    """Each way to change a node of the tree: the node that goes, and the one in its place; None for nothing."""

    def changed(**fields: object) -> ast.AST:
        other = copy.copy(node)
        for name, value in fields.items():
            setattr(other, name, value)
        return other

    match node:
        case ast.Compare(ops=[op]) if type(op) in OTHER:
            yield node, changed(ops=[OTHER[type(op)]()])
        case ast.BinOp(op=op) if type(op) in OTHER:
            yield node, changed(op=OTHER[type(op)]())
        case ast.BoolOp(op=op):
            yield node, changed(op=OTHER[type(op)]())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node, operand
        case ast.Constant(value=bool() as value):
            yield node, ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield node, ast.Constant(value + 1 if value < 10 else 2 * value)
        case ast.Constant(value=float() as value):
            yield node, ast.Constant(2 * value or 1.0)
        case ast.Return(value=ast.expr() as value):
            yield value, ast.Constant(None)
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield test, ast.UnaryOp(ast.Not(), test)
        case ast.Call(func=ast.Name(id="min" | "max")):
            pass
        case ast.Call(args=[first, second, *rest]) if not isinstance(first, ast.Starred):
            yield node, changed(args=[second, first, *rest])
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            yield node, changed(keywords=[each for each in node.keywords if each is not keyword])


def said_only(node: ast.AST) -> bool:
    """Whether a node is there for people or type checkers: a message, an import, an assertion."""
    match node:
        case ast.Raise() | ast.Assert() | ast.Import() | ast.ImportFrom() | ast.JoinedStr():
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"))):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
    return False


def computing(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree that compute something."""
    if said_only(node):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from computing(child)


@cache
def mutants_of(file: str, text: str) -> list[Mutant]:
    """Every mutant of a file."""
    lengths = [len(line) for line in text.encode().splitlines(keepends=True)]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    found = []
    for node in computing(ast.parse(text)):
        for old, new in replaced(node):
            start, end = (
                starts[line - 1] + column
                for line, column in ((old.lineno, old.col_offset), (old.end_lineno, old.end_col_offset))
            )
            before, after = text.encode()[start:end].decode(), ast.unparse(new)
            if after != ast.unparse(old):
                found.append(Mutant(file, old.lineno, start, end, before, after))
    return found


def chosen(part: str, count: int, seed: int) -> list[Mutant]:
    """Mutants of so many random lines of a part; those of a smaller count are the first of a larger."""
    lines: dict[tuple[str, int], list[Mutant]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        if part_of(file) == part:
            for mutant in mutants_of(file, path.read_text()):
                lines.setdefault((file, mutant.line), []).append(mutant)
    draw = random.Random(f"{seed} {part}")
    places = sorted(lines)
    draw.shuffle(places)
    return [draw.choice(lines[place]) for place in places[:count]]


def tests_near(file: str, part: str) -> list[str]:
    """Files of tests, the nearest first: named like folder and file, or like one of them, quick, importing it, of its
    folder, of its part."""
    module = "convnext." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    *folders, stem = module.split(".")[1:]
    names = {f"test_{stem}", f"test_{folders[-1]}", f"test_{folders[-1]}_{stem}"}
    parent, name = module.rpartition(".")[::2]
    imports = re.compile(rf"{re.escape(module)}\b|from {re.escape(parent)} import .*\b{name}\b")
    near = []
    for path in sorted(TESTS.rglob("test_*.py")):
        test = path.relative_to(TESTS).as_posix()
        named = path.stem in names
        inside = path.is_relative_to(TESTS.joinpath(*folders))
        ranks = (
            path.stem == f"test_{folders[-1]}_{stem}",
            named and inside,
            test.startswith(PARTS[part].quick),
            named,
            bool(imports.search(path.read_text())),
            inside,
            test.startswith(PARTS[part].tests),
        )
        if any(ranks) and not test.startswith(APART):
            near.append((ranks.index(True), f"tests/{test}"))
    return [test for _, test in sorted(near)]


OUT_OF_TIME = "out of time"
"""Said of a mutant whose tests were stopped: none had failed."""


class Outcome(NamedTuple):
    """What became of a mutant; `by` is the test that failed, or `OUT_OF_TIME`."""

    part: str
    mutant: Mutant
    killed: bool
    by: str


def used(number: int) -> float:
    """Processor seconds of a process and of those it started, so that a busy machine finds what an idle one does; a
    tenth of the time that passed, where they wait."""
    try:
        own = psutil.Process(number)
        family = [own, *own.children(recursive=True)]
        times = [each.cpu_times() for each in family]
        passed = time.time() - own.create_time()
    except psutil.NoSuchProcess:
        return 0.0
    return max(sum(t.user + t.system + t.children_user + t.children_system for t in times), passed / 10)


def run_tests(tests: Sequence[str], source: Path, seconds: float | None) -> tuple[int | None, str]:
    """Exit status of the tests, None out of time, and the test that failed, of a package in a folder."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "--no-header", "--show-capture=no"]
        names = Path(place) / "names"
        names.write_text("\n".join(tests))
        # Without --keep-duplicates, a named test whose file is named later runs at the file's place.
        command += ["--keep-duplicates", f"--basetemp={place}/tests", f"@{names}"]
        with open(f"{place}/said", "w+") as said:
            environment = {**os.environ, "PYTHONPATH": str(source)}
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                while (status := process.poll()) is None and (seconds is None or used(process.pid) < seconds):
                    if stopped.wait(0.2):
                        break
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            said.seek(0)
            failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said.read(), re.MULTILINE)
    return status, failed[1] if failed else ""


def try_mutant(part: str, mutant: Mutant, seconds: float, covering: Covering | None) -> Outcome:
    """Run the tests of a mutant's line, and those near it, on a copy of the package."""
    with tempfile.TemporaryDirectory() as place:
        package = Path(place) / "convnext"
        shutil.copytree(PACKAGE, package)  # compiled files too: all but one are those of the copy
        path = package / mutant.file
        path.write_text(mutant.applied(path.read_text()))
        near, running = tests_near(mutant.file, part), list[str]()
        if covering is not None:
            # Where many tests run a line, the kept ones are seldom those that look at it closest: a part of the time,
            # after the quick ones of the part.
            many = covering.run_by_many(mutant.file, mutant.line)
            first = [test for test in near if test.removeprefix("tests/").startswith(PARTS[part].quick)] if many else []
            running = [*first, *covering.running(mutant.file, mutant.line, seconds / 4 if many else seconds)]
        status, failed = run_tests([*running, *near], Path(place), seconds)
    # 5: there are no tests
    return Outcome(part, mutant, status not in (0, 5, None), OUT_OF_TIME if status is None else failed)


def stored(path: Path) -> list[Outcome]:
    """What was done before; a line that a stop cut short is taken out of the file."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines[:-1]))
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [Outcome(row["part"], Mutant(*row["mutant"]), row["killed"], row["by"]) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--count", type=int, default=20, help="of each part")
    parser.add_argument("--seconds", type=float, default=90, help="of a processor, most for a mutant's tests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="mutants tried side by side")
    parser.add_argument("--again", action="store_true", help="try survivors again")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "mutants.jsonl")
    parser.add_argument("--covering", type=Path, default=ROOT / "runs" / "covering.json", help="tests of each line")
    parser.add_argument("--json", type=Path, help="write the table there")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())

    wanted = [(part, mutant) for part in args.part for mutant in chosen(part, args.count, args.seed)]
    known = {(each.part, each.mutant): each for each in stored(args.out)}
    covering = read_covering(args.covering)
    waiting = [key for key in wanted if key not in known or (args.again and not known[key].killed)]

    def tried(key: tuple[str, Mutant]) -> Outcome | None:
        outcome = None if stopped.is_set() else try_mutant(*key, args.seconds, covering)
        return None if stopped.is_set() else outcome

    with open(args.out, "a") as file, ThreadPoolExecutor(args.jobs) as pool:
        for number, outcome in enumerate(pool.map(tried, waiting), start=1):
            if outcome is None:
                raise SystemExit("stopped; the same command goes on")
            file.write(json.dumps(outcome._asdict()) + "\n")
            file.flush()
            print(f"{number} of {len(waiting)}: {described(outcome)}", flush=True)
    report([each for each in stored(args.out) if (each.part, each.mutant) in set(wanted)], args)


def described(outcome: Outcome) -> str:
    part, mutant, killed, by = outcome
    before, after = (re.sub(r"\s+", " ", text) for text in (mutant.before, mutant.after))
    end = "killed" if killed else "SURVIVED"
    return f"{end} {part} {mutant.file}:{mutant.line}: {before} -> {after}{by and f' ({by})'}"


def failing_anyway(tests: set[str]) -> set[str]:
    """Those of the tests that fail without a mutant."""
    found: set[str] = set()
    while left := sorted(tests - found):
        _, failed = run_tests(left, PACKAGE.parent, None)
        if not failed:
            break
        print(f"fails without a mutant too: {failed}")
        found.add(failed)
    return found


def report(outcomes: Sequence[Outcome], args: argparse.Namespace) -> None:
    """Print the survivors and the table of killed and survived, and write the table."""
    false = failing_anyway({each.by for each in outcomes if each.killed and each.by})
    first: dict[tuple[str, Mutant], bool] = {}
    last: dict[tuple[str, Mutant], Outcome] = {}
    for each in outcomes:
        killed = each.killed and each.by not in false
        first.setdefault((each.part, each.mutant), killed)
        last[each.part, each.mutant] = each._replace(killed=killed)
    rows: list[list[str | int]] = []
    for part in args.part:
        own = [each for each in last.values() if each.part == part]
        survived = [each for each in own if not each.killed]
        unended = sum(each.by == OUT_OF_TIME for each in survived)
        at_first = sum(not killed for (name, _), killed in first.items() if name == part)
        rows.append([part, len(own), len(own) - len(survived), len(survived), unended, at_first])
    rows.append(["all", *(sum(int(row[i]) for row in rows) for i in range(1, 6))])
    for outcome in last.values():
        if not outcome.killed:
            print(described(outcome))
    names = ("part", "mutants", "killed", "survived", "of these out of time", "survived at first")
    columns = [{"name": name} for name in names]
    for row in [names, *rows]:
        print("".join(f"{cell!s:>22}" for cell in row))
    if args.json is not None:
        note = f"At most {args.seconds:g} s of a processor for the tests of a mutant."
        write_result(
            args.json, title="Mutants that the tests find", columns=columns, rows=rows, note=note, seed=args.seed
        )


if __name__ == "__main__":
    main()
