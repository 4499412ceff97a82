"""Text that cannot steer a terminal, and JSON of numbers that are none."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
from PIL import Image

from convnext import cli
from convnext.printing import PlainFormatter, first_names, flag_of, printable, to_json
from convnext.storage.files import short, whole_file


def test_control_characters_are_written_out() -> None:
    assert printable("\x1b]0;pwn\x07.png") == "\\x1b]0;pwn\\x07.png"
    assert printable("a\u202egnp.exe") == "a\\u202egnp.exe"
    assert printable("Müsli\tmit\nÄpfeln 梨") == "Müsli\tmit\nÄpfeln 梨"
    assert printable("http://ann:se@cret@host/x?y=a@b of https://u@h") == "http://host/x?y=a@b of https://h"
    record = logging.LogRecord("convnext", logging.INFO, "", 0, "class \x9b2J", (), None)
    assert PlainFormatter("%(message)s").format(record) == "class \\x9b2J"


def test_names_of_strangers_do_not_reach_the_terminal_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "\x1b[2J.png"
    bad.write_bytes(b"no image")
    assert cli.main(["predict", str(tmp_path / "\x1b]0;pwn\x07"), str(bad)]) == 2
    assert cli.main(["pack", str(bad), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\\x1b]0;pwn\\x07" in said.err


def test_numbers_that_are_not_finite_are_null() -> None:
    value = {"loss": math.nan, "each": [1.5, -math.inf], "name": "nan", "deep": ({"x": math.inf},)}
    assert json.loads(to_json(value)) == {"loss": None, "each": [1.5, None], "name": "nan", "deep": [{"x": None}]}


def test_of_many_names_the_first_are_said_and_how_many_more_there_are() -> None:
    assert first_names([]) == ""
    assert first_names(list("abcde")) == "a, b, c, d, e"
    assert first_names(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert first_names(("a", "b", "c"), 2) == "a, b and 1 more"


def test_an_option_is_called_as_the_command_line_has_it() -> None:
    assert flag_of("max_wait_ms") == "--max-wait-ms"


def test_long_names_are_written(tmp_path: Path) -> None:
    """255 bytes are what file systems take; a temporary name may not be longer."""
    path = tmp_path / ("é" * 120 + ".png")
    with whole_file(path) as temporary:
        Image.new("RGB", (4, 4)).save(temporary, format="PNG")
    assert path.is_file()
    assert len(short("é" * 200).encode(errors="surrogateescape")) <= 180
    assert short("name") == "name"
