"""Repositories of the Hugging Face Hub: how they are named, and why one cannot be fetched."""

from __future__ import annotations

import errno
import os
import re

from convnext.errors import InputError

PREFIX = "hf:"
IDENTIFIER = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}")
"""The form of a repository's name."""


def hub_repository(source: str) -> str:
    """The repository that `hf:ORGANISATION/NAME` names. `InputError` for what is of another form."""
    name = source.removeprefix(PREFIX)
    if name == source or IDENTIFIER.fullmatch(name) is None:
        raise InputError(f"{source} names no repository; the form is {PREFIX}ORGANISATION/NAME")
    return name


def reason_not_fetched(error: Exception, wanted: tuple[str, ...]) -> str:
    """Why a repository cannot be had, and what to do, on one line."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return "it is gated; accept its licence on its page there, log in (`hf auth login`), and try again"
        case errors.RepositoryNotFoundError():
            return "there is no such repository, or it is private; for a private one log in (`hf auth login`)"
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled():
            return "no network (or HF_HUB_OFFLINE is set), and it is not in the cache; download it elsewhere"
        case errors.EntryNotFoundError():
            return f"it holds no {' and no '.join(wanted)}; pass a repository of weights"
        case OSError(errno=number) if number in (errno.ENOSPC, errno.EDQUOT):
            return f"{os.strerror(number)}; HF_HOME names a place with more room"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
