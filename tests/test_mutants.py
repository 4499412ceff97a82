"""Faults that `make mutants` puts in: each is one, where it says, and messages are left alone."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from vacuous import nonempty

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "benchmarks" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        patch.setitem(sys.modules, "mutants", module)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "faults"),
    [
        ("x = a < b", ["x = a <= b"]),
        ("x = a in b", ["x = a not in b"]),
        ("x = (a + b) * c", ["x = (a + b) / c", "x = (a - b) * c"]),
        ("x = a and not b", ["x = a or not b", "x = a and b"]),
        ("x = 3", ["x = 4"]),
        ("x = 256", ["x = 512"]),
        ("x = 0.5", ["x = 1.0"]),
        ("x = True", ["x = False"]),
        ("x = f(a, b, key=c)", ["x = f(b, a, key=c)", "x = f(a, b)"]),
        ("x = min(a, b)", []),
        ("x = a if b else c", ["x = a if not b else c"]),
        ("if a: x = b", ["if not a: x = b"]),
        ("def f(x: int | None = None): return x", ["def f(x: int | None = None): return None"]),
        ("def f(): return None", []),
        ("raise ValueError(f'{a + 1}')", []),
        ("log.info('%d', a + 1)", []),
        ("é = 'é' ; x = a - b", ["é = 'é' ; x = a + b"]),
    ],
)
def test_the_faults_of_a_line(line: str, faults: list[str], mutants: ModuleType) -> None:
    assert [each.applied(line) for each in mutants.mutants_of("x.py", line)] == faults


def test_every_fault_of_the_package_can_be_read_and_is_one(mutants: ModuleType) -> None:
    for part in nonempty(mutants.PARTS):
        chosen = mutants.chosen(part, 10, 0)
        assert len({(each.file, each.line) for each in chosen}) == 10
        assert chosen[:7] == mutants.chosen(part, 7, 0)
        for each in nonempty(chosen):
            text = (mutants.PACKAGE / each.file).read_text()
            assert ast.dump(ast.parse(each.applied(text))) != ast.dump(ast.parse(text))


def test_a_file_is_of_one_part(mutants: ModuleType) -> None:
    files = {
        "tasks/detect/evaluate.py": "metrics",
        "analysis/plots.py": "metrics",
        "tasks/classify/recipes/digits.py": "recipes",
        "tasks/detect/task.py": "tasks",
        "train/trainer.py": "train",
        "cli/train.py": None,
    }
    assert {file: mutants.part_of(file) for file in files} == files


def test_the_nearest_tests_come_first(mutants: ModuleType) -> None:
    assert mutants.tests_near("data/rle.py", "data")[0] == "tests/data/test_rle.py"
    assert (
        mutants.tests_near("tasks/classify/recipes/imagenet_v1.py", "recipes")[0] == "tests/tasks/test_own_recipes.py"
    )
    assert mutants.tests_near("tasks/detect/metrics.py", "metrics")[0] == "tests/tasks/detect/test_metrics.py"
    assert "tests/models/detection/test_rcnn.py" in mutants.tests_near("inference/tiles.py", "inference")


def test_what_was_done_is_read_again(mutants: ModuleType, tmp_path: Path) -> None:
    done = mutants.Outcome("data", mutants.chosen("data", 1, 0)[0], True, "tests/x.py::test")
    path = tmp_path / "done.jsonl"
    assert mutants.stored(path) == []
    path.write_text(json.dumps(done._asdict()) + "\n" + json.dumps(done._asdict())[:30])
    for _ in range(2):
        assert mutants.stored(path) == [done]
    assert path.read_text() == json.dumps(done._asdict()) + "\n"


def test_the_quickest_tests_of_a_line_come_first(mutants: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {
        "a.py::slow": [0.0, 30.0],
        "a.py::quick": [0.0, 1.0],
        "b.py::first": [20.0, 1.0],
        "b.py::second": [0.0, 1.0],
        "c.py::changed": [0.0, 0.1],
    }
    lines = {"nn/x.py": {"7": [0, 1, 3, 4], "8": [2, 3]}}
    files = {"a.py": "a", "b.py": "b", "c.py": "c"}
    monkeypatch.setattr("covering.digests", lambda: files | {"c.py": "another"})
    covering = mutants.Covering(files, seconds, lines)
    assert covering.running("nn/x.py", 7, 90) == ["a.py::quick", "a.py::slow", "b.py::second"]
    assert covering.running("nn/x.py", 7, 20) == ["a.py::quick"]
    # The second alone takes 21 seconds too: the first had prepared what both take up.
    assert covering.running("nn/x.py", 8, 21) == ["b.py::first"]
    assert covering.running("nn/x.py", 8, 20) == covering.running("nn/x.py", 9, 90) == []
