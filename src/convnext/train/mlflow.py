"""Points for MLflow, wherever `MLFLOW_TRACKING_URI` points."""

from __future__ import annotations

import logging
import os
import time

from convnext.errors import InputError
from convnext.runs.directory import Run, parsed, read_text

log = logging.getLogger("convnext")


class Mlflow:
    """The tracked run of `run`: the one that its `mlflow.json` names, else a new one of `MLFLOW_EXPERIMENT_NAME`.

    Points that a resumed run gives again are left out. `InputError` if MLflow cannot be reached or lacks the run.
    """

    def __init__(self, run: Run) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        known = parsed(read_text(run.path / "mlflow.json")).get("id")
        self.begun_at: dict[str, int] = {}
        try:
            self.client = MlflowClient()
            self.id = known or self.client.create_run(self.experiment(), run_name=run.path.resolve().name).info.run_id
            if known:
                self.client.update_run(known, "RUNNING")
                for name in self.client.get_run(known).data.metrics:
                    self.begun_at[name] = max(point.step for point in self.client.get_metric_history(known, name))
            else:  # options that a resumed run changes stay as they were: MLflow's never change
                self.client.log_batch(
                    self.id, params=[Param(name, str(value)) for name, value in run.read_config().items()]
                )
        except MlflowException as error:
            reason = str(error).partition("\n")[0].strip()
            raise InputError(f"MLflow: {reason}; --track none trains without") from error
        run.write_json("mlflow.json", {"id": self.id})
        log.info("tracked by MLflow: run %s at %s", self.id, self.client.tracking_uri)

    def experiment(self) -> str:
        """Id of the experiment, which is made if it is not there."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "convnext")
        found = self.client.get_experiment_by_name(name)
        return self.client.create_experiment(name) if found is None else found.experiment_id

    def add(self, values: dict[str, float], step: int) -> None:
        """Points of several curves."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        new = {name: value for name, value in values.items() if step > self.begun_at.get(name, -1)}
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in new.items()])

    def close(self, *, ended: bool) -> None:
        """No more will come."""
        self.client.set_terminated(self.id, "FINISHED" if ended else "KILLED")
