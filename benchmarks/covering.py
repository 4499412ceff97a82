"""Find which tests run each line of the package, for `mutants.py`.

    python benchmarks/covering.py [--jobs 2] [--out runs/covering.json] [TESTS ...]

The suite runs once under coverage.py, which knows the test at work. Of a line that many tests run, those are kept that
are quick and run few lines besides: they look closest. Lines that run when a module is imported are no test's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE, TESTS = ROOT / "src" / "convnext", ROOT / "tests"
KEPT = 40
"""Tests of a line that are kept."""


class Times:
    """A plugin of pytest that writes how long each test that passed took: `[preparation, test]`, in seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "teardown":
            self.seconds[report.nodeid][report.when == "call"] += report.duration
        if not report.passed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        passed = {test: both for test, both in self.seconds.items() if test not in self.failed}
        self.path.write_text(json.dumps(passed))


class Covering(NamedTuple):
    """Tests of each line.

    Args:
        files: digest of each file of tests.
        seconds: of each test: its preparation's and its own.
        lines: by file of the package and line, in text: places among `seconds`.
    """

    files: dict[str, str]
    seconds: dict[str, list[float]]
    lines: dict[str, dict[str, list[int]]]

    def run_by_many(self, file: str, line: int) -> bool:
        """Whether more tests run a line than are kept."""
        return len(self.lines.get(file, {}).get(str(line), ())) >= KEPT

    def running(self, file: str, line: int, limit: float) -> list[str]:
        """Tests that run a line, the quickest files first, of together at most `limit` seconds; none of files that have
        changed."""
        names, now = list(self.seconds), digests()
        by_file: dict[str, list[str]] = defaultdict(list)
        for place in self.lines.get(file, {}).get(str(line), ()):
            path = names[place].partition("::")[0]
            if now.get(path) == self.files[path]:
                by_file[path].append(names[place])
        prepared = self.preparation()
        cost = {test: self.seconds[test][1] for own in by_file.values() for test in own}
        found: list[str] = []
        spent = 0.0
        for path in sorted(by_file, key=lambda path: prepared[path] + min(cost[test] for test in by_file[path])):
            spent += prepared[path]
            for test in sorted(by_file[path], key=cost.__getitem__):
                spent += cost[test]
                if spent > limit:
                    return found
                found.append(test)
        return found

    def preparation(self) -> dict[str, float]:
        """Longest preparation of a test of each file: what its tests share falls to the first."""
        longest: dict[str, float] = defaultdict(float)
        for test, (before, _) in self.seconds.items():
            path = test.partition("::")[0]
            longest[path] = max(longest[path], before)
        return longest


@cache
def digests() -> dict[str, str]:
    """Digest of each file of tests: of one that has changed, nothing is known."""
    files = sorted(TESTS.rglob("test_*.py"))
    return {path.relative_to(ROOT).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def read_covering(path: Path) -> Covering | None:
    """What was found before; None if there is nothing."""
    return Covering(**json.loads(path.read_text())) if path.exists() else None


def lines_of(data: Path, seconds: dict[str, list[float]]) -> dict[str, dict[str, list[int]]]:
    """Of coverage.py's file, the tests of each line whose seconds times lines are least."""
    from coverage import CoverageData

    measured = CoverageData(str(data))
    measured.read()
    tests: dict[str, dict[str, set[str]]] = {}
    for path in sorted(measured.measured_files()):
        contexts = sorted(measured.contexts_by_lineno(path).items())
        of_lines = {str(line): {each.rpartition("|")[0] for each in own} & seconds.keys() for line, own in contexts}
        tests[Path(path).relative_to(PACKAGE).as_posix()] = {line: own for line, own in of_lines.items() if own}
    lines = Counter(chain.from_iterable(own for of_lines in tests.values() for own in of_lines.values()))
    place = {test: i for i, test in enumerate(seconds)}

    def cost(test: str) -> tuple[float, str]:
        return sum(seconds[test]) * lines[test], test

    return {
        file: {line: [place[test] for test in sorted(own, key=cost)[:KEPT]] for line, own in of_lines.items()}
        for file, of_lines in tests.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", help="files or folders of tests; without, all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "covering.json")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        times = Path(place) / "times.json"
        call = f"import sys, pytest; sys.path.insert(0, {str(Path(__file__).parent)!r}); from covering import Times; "
        call += f"from pathlib import Path; sys.exit(pytest.main(sys.argv[1:], [Times(Path({str(times)!r}))]))"
        data = Path(place) / "coverage"
        settings = Path(place) / "settings"
        settings.write_text(f"[run]\ndata_file = {data}\nsource = {PACKAGE}\n")
        command = [sys.executable, "-c", call, "-q", "-n", str(args.jobs), "--dist", "loadfile", "--cov-context=test"]
        command += ["--cov", f"--cov-config={settings}", "--cov-report=", "--tb=short", "--show-capture=no"]
        status = subprocess.run([*command, *args.tests], cwd=ROOT, check=False).returncode
        if status not in (0, 1):
            raise SystemExit(status)
        seconds = json.loads(times.read_text())
        found = Covering(digests(), seconds, lines_of(data, seconds))
    args.out.write_text(json.dumps(found._asdict()))
    print(f"{args.out}: {len(seconds):,} tests, {sum(map(len, found.lines.values())):,} lines that they run")


if __name__ == "__main__":
    main()
