"""Points for Weights & Biases. What cannot be sent lies in the run's folder `wandb`, for `wandb sync`."""

from __future__ import annotations

import logging
import os
from typing import Any

from convnext.errors import InputError
from convnext.runs.directory import Run, parsed, read_text

log = logging.getLogger("convnext")

FINISH_SECONDS = 60
"""How long the end waits for what is not sent yet."""


class Wandb:
    """The tracked run of `run`: the one that its `wandb.json` names, else a new one of the project `WANDB_PROJECT`.

    Points that a resumed run gives again are left out. Where wandb cannot be reached the run is tracked offline.
    `InputError` if wandb lets nobody in.
    """

    def __init__(self, run: Run) -> None:
        import wandb

        self.run, self.known = run, parsed(read_text(run.path / "wandb.json"))
        how: dict[str, Any] = {
            "project": os.environ.get("WANDB_PROJECT", "convnext"),
            "name": None if self.known else run.path.resolve().name,
            "id": self.known.get("id"),
            "dir": run.path,
            "resume": "allow",
            "settings": wandb.Settings(console="off", silent=True, finish_timeout=FINISH_SECONDS),
        }
        try:
            self.tracked = wandb.init(**how)
        except wandb.errors.Error as error:
            reason = str(error).partition("\n")[0]
            if not isinstance(error, wandb.errors.CommError) or isinstance(error, wandb.errors.AuthenticationError):
                raise InputError(f"wandb: {reason}; WANDB_MODE=offline needs no server") from error
            log.warning("wandb cannot be reached, so the run is tracked offline: %s", reason)
            self.tracked = wandb.init(**how, mode="offline")
        self.tracked.config.update(run.read_config(), allow_val_change=True)
        self.tracked.define_metric("*", step_metric="step")  # its own steps never go back, as ours do
        self.begun_at = self.known.get("steps", {})
        self.known = {"id": self.tracked.id, "steps": dict(self.begun_at)}
        run.write_json("wandb.json", self.known)
        sent = f"offline; to send it: wandb sync {self.tracked.settings.sync_dir}"
        log.info("tracked by wandb: %s", sent if self.tracked.offline else self.tracked.url)

    def add(self, values: dict[str, float], step: int) -> None:
        """Points of several curves."""
        new = {name: value for name, value in values.items() if step > self.begun_at.get(name, -1)}
        if new:
            self.tracked.log({**new, "step": step})
            self.known["steps"].update(dict.fromkeys(new, step))
            self.run.write_json("wandb.json", self.known)

    def close(self, *, ended: bool) -> None:
        """No more will come. Waits for what is not sent yet, at most `FINISH_SECONDS`."""
        self.tracked.finish(exit_code=0 if ended else 1)
