"""Whole numbers that cannot be get a line, whichever command and option they are given to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from making import fails

from convnext.cli.command import Parser
from convnext.cli.parser import COMMANDS

MAY_BE_ZERO = {"--port", "--seed", "--workers"}
COUNTS_FROM_THE_END = {("analyze attribute", "--stage")}
ARGUMENTS = {
    "check": ("DATA",),
    "cross-validate": ("DATA", "--out", "OUT"),
    "models": ("--measure",),
    "pack": ("DATA", "--out", "OUT"),
    "predict": ("RUN", "IMAGE"),
    "embed": ("RUN", "IMAGE", "--out", "OUT.npy"),
    "evaluate": ("RUN", "DATA"),
    "benchmark": ("RUN",),
    "serve": ("RUN",),
    "analyze reconstruct": ("RUN", "IMAGE", "--out", "OUT"),
    **{f"analyze {name}": ("RUN", "IMAGE", "--out", "OUT") for name in ("activations", "attribute")},
    **{
        f"analyze {name}": ("RUN", "DATA", "--out", "OUT")
        for name in ("collapse", "selectivity", "robustness", "resolution")
    },
}
"""What a command needs beside the number."""


def numbers() -> Iterator[tuple[str, str, int]]:
    """Every command, with each of its options that takes a whole number, and one that is too small for it."""
    for command in COMMANDS:
        parser = Parser(prog="x", add_help=not command.own_help)
        command.options(parser)
        for action in parser._actions:
            if action.type is int:
                flag = action.option_strings[-1]
                may_be_zero = flag in MAY_BE_ZERO and (command.name, flag) != ("serve", "--workers")
                if (command.name, flag) not in COUNTS_FROM_THE_END:
                    yield command.name, flag, -1
                if not may_be_zero:
                    yield command.name, flag, 0


@pytest.mark.parametrize(("command", "flag", "number"), list(numbers()))
def test_a_number_that_is_too_small_is_a_line(
    command: str,
    flag: str,
    number: int,
    run: Path,
    colours: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"RUN": run, "DATA": colours, "IMAGE": colours / "val" / "red" / "0.png", "OUT": tmp_path / "out"}
    places["OUT.npy"] = tmp_path / "out.npy"
    words = [places.get(word, word) for word in ARGUMENTS[command]]
    line = fails(capsys, *command.split(), *words, flag, number)
    assert flag.lstrip("-") in line
    assert str(number) in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
