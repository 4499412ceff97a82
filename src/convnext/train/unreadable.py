"""Training images that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable

from convnext.errors import InputError
from convnext.runs.directory import Run
from convnext.runtime import distributed


class Unreadable:
    """Lists the images that cannot be read in the run, each once.

    Args:
        run: whose `unreadable.txt` names them.
        images: count of the training images.
        most: share of them that may be unreadable.
    """

    def __init__(self, run: Run, *, images: int, most: float) -> None:
        self.run, self.images, self.most = run, images, most
        self.known: dict[str, str] = {}  # reasons by path, known to all processes
        self.found: dict[str, str] = {}  # by this one, since `share`

    def note(self, images: Iterable[tuple[str, str]]) -> None:
        """List (path, reason) of a batch. `InputError` if there are too many by now."""
        for path, reason in images:
            if path not in self.known and path not in self.found:
                self.found[path] = reason
                if distributed.rank() == 0:
                    self.run.append(self.run.unreadable, reason)
        count = len(self.known) + distributed.total_count(len(self.found))
        if count > self.most * self.images:
            raise InputError(
                f"{count} of {self.images} training images cannot be read, more than --max-unreadable "
                f"{self.most:g} allows; they are listed in {self.run.unreadable}"
            )

    def share(self) -> dict[str, str]:
        """Tell all processes what each has found; returns all that is known, as `restore` takes it."""
        for rank, found in enumerate(distributed.gather(self.found)):
            new = {path: reason for path, reason in found.items() if path not in self.known}
            self.known |= new
            if rank and distributed.rank() == 0:  # its own are listed
                for reason in new.values():
                    self.run.append(self.run.unreadable, reason)
        self.found = {}
        return self.known

    def restore(self, known: dict[str, str]) -> None:
        """Take up what a checkpoint knew, and list that alone."""
        self.known = known
        if distributed.rank() == 0 and self.run.unreadable.is_file():
            self.run.write_lines(self.run.unreadable, known.values())
