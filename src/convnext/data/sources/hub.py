"""Data sets of the Hugging Face Hub, `hf:ORGANISATION/NAME`: fetched into the Hub's cache, and read there as a folder.

They are not read over the network image by image: every epoch reads all of them, in another order.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from pathlib import Path

from convnext.errors import InputError
from convnext.storage.hub import PREFIX, hub_repository, reason_not_fetched


def is_on_hub(data: str | Path) -> bool:
    """Whether data are named as a data set of the Hub."""
    return str(data).startswith(PREFIX)


def fetched(data: str | Path) -> str | Path:
    """The folder in the Hub's cache that a data set's files were fetched to; other data as they are.

    Without a network it is what was fetched before. `InputError` for a name of another form, and where the data set
    cannot be had: there is none, its terms are to be accepted, no network, no room on the disk.
    """
    if not is_on_hub(data):
        return data
    return _snapshot(str(data))


@cache
def _snapshot(data: str) -> Path:
    """The folder of a data set, which is the same for as long as the process lasts."""
    repository = hub_repository(data)
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # without a network: 22 lines of retries
    try:
        return Path(snapshot_download(repository, repo_type="dataset"))
    except (OSError, ValueError) as error:
        reason = reason_not_fetched(error, ("files",))
        raise InputError(f"{data} cannot be fetched from the Hugging Face Hub: {reason}") from None
