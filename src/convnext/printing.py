"""Printing names of files, classes and addresses safely, and JSON without NaN."""

from __future__ import annotations

import json
import logging
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST = 1000
"""Characters of a problem, at most: a name in it may be of any length."""
LONGEST_NAME = 80
"""Characters of a name within a sentence, at most."""


def shown_name(place: str) -> str:
    """The last part of a path or address: a card is published, and says nothing of this machine's folders."""
    return printable(Path(place).name or place).strip() or "data"


def printable(text: object) -> str:
    """Text with its control characters written out, as `\\x1b` for escape, and addresses without passwords.

    Names of strangers' files and classes may hold some. Tabs and line ends stay.
    """
    return "".join(repr(c)[1:-1] if _is_control(c) else c for c in without_password(str(text)))


def without_password(text: str) -> str:
    """A text whose addresses have no user and password in them, also one that cannot be parsed."""
    return re.sub(r"(?<=://)[^/?#\s]*@", "", text)


def _is_control(character: str) -> bool:
    turns_text = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"  # right to left and back
    return turns_text or ((character < " " or "\x7f" <= character < "\xa0") and character not in "\n\t")


def quoted(name: object) -> str:
    """A stranger's name within a sentence: between quotes, on one line, shortened, and of characters that any stream
    and file takes."""
    text = " ".join(printable(name).split()).encode(errors="backslashreplace").decode()
    return f"'{text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + '…'}'"


def counted(count: int, thing: str, things: str | None = None) -> str:
    """A number of things, such as "1 image" and "2,000 images"; `things` where the plural has more than an s."""
    return f"{count:,} {thing if count == 1 else things or f'{thing}s'}"


def first_names(names: Sequence[str], most: int = 5) -> str:
    """The first so many names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def share(part: float, whole: float = 1) -> str:
    """A part of a whole in percent, of three digits."""
    percent = 100 * part / whole
    return f"{percent:.3g} %" if percent < 1000 else f"{percent:,.0f} %"


def listed(metrics: Mapping[str, float]) -> str:
    """Metrics on one line, of four digits after the point."""
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


class PlainFormatter(logging.Formatter):
    """Log lines that cannot steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def say(text: object) -> None:
    """Print text on stdout, of which parts may be a stranger's."""
    print(printable(text))


def say_sizes(files: Mapping[str, int]) -> None:
    """Print files with their sizes in bytes, a line each."""
    for name, size in files.items():
        say(f"  {name:<40}{size / 1000:>12,.1f} kB")


def complain(problem: object) -> None:
    """Print a problem on stderr, as one line."""
    line = printable(problem).replace("\n", " ")
    line = line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
    print(f"convnext: {line}", file=sys.stderr)


def status_of(bad: int, count: int) -> int:
    """Exit status of a command on images: 0, 1 if some were unreadable, 2 if all were; of several it says how many."""
    if bad and count > 1:
        complain(f"{bad} of {count} images could not be read")
    return 0 if not bad else 2 if bad == count else 1


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in which numbers that are not finite are null: the standard has no others."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def command_line(*words: object) -> str:
    """A command of ours that can be pasted into a shell, whatever its words hold."""
    return f"convnext {shlex.join(str(word) for word in words)}"


def flag_of(name: str) -> str:
    """An option as the command line has it: `--batch-size` of "batch_size"."""
    return f"--{name.replace('_', '-')}"


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on stderr, if that is a terminal; inside, call what it gives after each of `total` things, or with how many
    are done more."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count=1: bar.advance(task, count)
