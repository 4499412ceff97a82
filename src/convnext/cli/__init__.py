"""The command line. Each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import errno
import logging
import re
import sys
from io import TextIOWrapper

from convnext.cli.parser import build_parser
from convnext.errors import InputError, Stopped
from convnext.printing import PlainFormatter, complain, flag_of, quoted

NAMED_WRONGLY = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)
"""Errors of the system that whoever named a file or folder can mend: its name is too long, or it may not be read."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 where some images could not be read, 2 for bad input."""
    words = sys.argv[1:] if argv is None else argv
    helps = [word for word in words if word in ("-h", "--help", "--help-all")]  # last, when a recipe's name is read
    return execute(build_parser().parse_args([word for word in words if word not in helps] + helps))


def execute(args: argparse.Namespace) -> int:
    """Run a command whose arguments are parsed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal may lack what names of files and classes have
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PlainFormatter("%(message)s"))
    logging.getLogger("convnext").setLevel(logging.INFO)
    try:
        if getattr(args, "slurm", None) is not None:
            return submit(args)
        return args.execute(args) or 0
    except InputError as error:
        complain(with_flag(str(error), args))
        return 2
    except BrokenPipeError:  # `convnext predict ... | head`
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in NAMED_WRONGLY:
            raise
        complain(f"{quoted(error.filename)}: {(error.strerror or str(error)).lower()}")
        return 2
    except Stopped as stop:
        complain(stop)
        return 128 + stop.signal
    except (RuntimeError, MemoryError) as error:
        from convnext.runtime.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        complain(out_of_memory(args))
        return 2
    except KeyboardInterrupt:
        print("convnext: interrupted", file=sys.stderr)
        return 130


def with_flag(message: str, args: argparse.Namespace) -> str:
    """A message that begins with an option's name in Python, with the flag that was given in its place."""
    name = re.match(r"(\w+) (must|takes|cannot be) ", message)
    return message if name is None or name[1] not in args else flag_of(name[1]) + message.removeprefix(name[1])


def out_of_memory(args: argparse.Namespace) -> str:
    """Message for a command that ran out of memory, with its options that need less."""
    at = f" at batch size {args.batch_size}" if getattr(args, "batch_size", None) is not None else ""
    flags = [flag_of(name) for name in ("batch_size", "image_size") if hasattr(args, name)]
    return f"out of memory{at}" + (f"; a smaller {' or '.join(flags)} takes less" if flags else "")


def submit(args: argparse.Namespace) -> int:
    """Let SLURM run the command."""
    from convnext.cli import slurm

    if args.out is None:
        raise InputError("--out says where the run goes")
    job, logs = slurm.submit_job(execute, args)
    print(f"job {job}: its output goes to {logs}/")
    return 0
