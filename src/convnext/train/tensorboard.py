"""Scalars for TensorBoard, written at once: its own writer's thread dies with a traceback when the disk is full."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from convnext.storage.files import make_folder, writing


class Scalars:
    """An event file in `folder`. Of a run taken up after `step`, TensorBoard forgets what was written beyond."""

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.folder, self.event = folder, Event
        name = f"events.out.tfevents.{time.time_ns() // 1000}.{socket.gethostname()}.{os.getpid()}"
        make_folder(folder)
        with writing(folder):
            self.file = open(folder / name, "wb")  # noqa: SIM115 - open as long as the run trains; `close` ends it
        self.records = RecordWriter(self.file)
        self.write(file_version="brain.Event:2")
        if step:
            self.write(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, values: dict[str, float], step: int) -> None:
        """Points of several curves."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self.write(step=step, summary=Summary(value=points))

    def write(self, **event: Any) -> None:
        """One event. `InputError` if the disk is full."""
        with writing(self.folder):
            self.records.write(self.event(wall_time=time.time(), **event).SerializeToString())
            self.file.flush()

    def close(self) -> None:
        """No more will come."""
        try:
            self.file.close()
        except OSError:  # what could not be written has been said
            return
