"""`docs/first-ten-minutes.md` is what happens: its commands are run, and say what it says but for the figures."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from vacuous import nonempty

PAGE = Path(__file__).parent.parent / "docs" / "first-ten-minutes.md"
CLASSES = {"church": "n03028079", "fish": "n01440764", "dog": "n02102040"}
DATA = os.environ.get("CONVNEXT_DATA")


def alike(line: str) -> str:
    """A line without what differs from machine to machine: numbers, and which of the classes is named."""
    line = re.sub(r"\b(church|dog|fish)\b", "CLASS", line)
    return re.sub(r"\s+", " ", re.sub(r"(?<![A-Za-z_])[+-]?\d[\d.:+e-]*\w*", "0", line)).strip()


def transcript(text: str) -> list[tuple[str, list[str]]]:
    """Commands, each with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether lines were printed, where `...` stands for any text, and as a line for any lines."""
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else ".*".join(map(re.escape, alike(line).split("..."))) + r"\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(alike(line) + "\n" for line in printed)) is not None


@pytest.mark.skipif(DATA is None, reason="CONVNEXT_DATA names no folder of images")
def test_it_is_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, count in (("train", 30), ("val", 10)):
        for name, folder in CLASSES.items():
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            images = sorted((Path(str(DATA)) / "imagenette" / part / folder).iterdir())[:count]
            for number, image in enumerate(images, 1):
                shutil.copy(image, tmp_path / "photos" / part / name / f"{number:03}.jpg")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command, expected in nonempty(transcript(PAGE.read_text())):
        if command.startswith("pip install"):
            continue
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "check": False}
        done = subprocess.run(command, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, **how)
        printed = done.stdout.splitlines()
        assert done.returncode == 0, printed
        assert matches(expected, printed), (command, printed)
    monkeypatch.chdir(tmp_path)
    (python,) = re.findall(r"```pycon\n(.*?)```", PAGE.read_text(), re.DOTALL)
    example = doctest.DocTestParser().get_doctest(python, {}, PAGE.name, str(PAGE), 0)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0


def test_a_changed_line_is_seen() -> None:
    assert matches(["top1  40.0000", "...", "end"], ["top1 39.5", "a", "b", "end"])
    assert matches(["holds ..."], ["holds this, that"])
    assert not matches(["top1  40.0000"], ["top5 39.5"])
    assert not matches(["a"], ["a", "b"])
    assert transcript("```console\n$ one\na\n$ two\n```\n") == [("one", ["a"]), ("two", [])]
