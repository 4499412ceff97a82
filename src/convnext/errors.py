"""Errors of the user's making: one clear line, never a traceback.

The command line prints an `InputError` as one line on stderr and exits with status 2.
"""


class InputError(ValueError):
    """Bad input from the user; the message says what is wrong, where, and what to do."""


class WeightsError(InputError):
    """A weight file that does not fit, cannot be read, or must not be trusted."""


class ImageError(InputError):
    """An image that cannot be decoded, or must not be."""


class Stopped(Exception):
    """A training was ended by Ctrl-C or by another signal to stop; the message says what is kept and how to go on."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def nearest(name: str, known: list[str]) -> str:
    """A closing phrase naming the known names nearest to `name`."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known)}"
