"""MLflow, as its own variables have it: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepeft.tracking.tracker import PROJECT, Tracker


class _MLflow:
    MEND = "check MLFLOW_TRACKING_URI and that its server answers"

    def begin(self, name: str, folder: Path, known: str | None) -> str:
        import mlflow

        # With the variable left set, transformers' callback would open the run a second time.
        asked = os.environ.pop("MLFLOW_RUN_ID", None)
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        run = mlflow.start_run(run_id=known or asked, run_name=name, log_system_metrics=False)
        self._id, self._experiment = run.info.run_id, run.info.experiment_id
        return str(self._id)

    def place(self) -> str:
        import mlflow

        where = str(mlflow.get_tracking_uri())
        if where.startswith("http"):
            return f"{where.rstrip('/')}/#/experiments/{self._experiment}/runs/{self._id}"
        return f"{where}, run {self._id}"

    def callback(self) -> Any:
        from transformers.integrations import MLflowCallback

        return MLflowCallback()

    def log(self, figures: Mapping[str, float]) -> None:
        import mlflow

        mlflow.log_metrics(dict(figures))

    def end(self, *, whole: bool) -> None:
        import mlflow

        # Curves are logged by a thread of its own.
        mlflow.flush_async_logging()
        mlflow.end_run("FINISHED" if whole else "KILLED")


def make() -> Tracker:
    """A tracker without a run."""
    return _MLflow()
