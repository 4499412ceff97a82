"""Errors that end a training and are no faults of the program."""

from __future__ import annotations

from convnext.errors import InputError
from convnext.runtime import distributed
from convnext.runtime.memory import is_out_of_memory


def reason_of(error: Exception, batch_size: int) -> str | None:
    """Why a training on batches of so many images cannot go on, in words; None where the program is at fault."""
    if isinstance(error, InputError):
        return str(error)
    if is_out_of_memory(error):
        return (
            f"out of memory at batch size {batch_size}: in a new run, --batch-size auto takes one that fits, and "
            "--checkpointing true or a larger --accumulate needs less"
        )
    return "another process of this run failed" if distributed.is_peer_failure(error) else None
