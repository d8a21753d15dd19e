"""Export stages with a fault planted in the graph they leave: what a wrong graph builder would make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgepeft.export.settings import ExportResult, ExportSettings
from edgepeft.stages.job import Job

Fault = Callable[[Any], None]
"""Changes an ONNX model in place."""


def window(model: Any) -> None:
    """A window of attention that the model does not have, wider than the task's rows."""
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            for attribute in list(node.attribute):
                if attribute.name == "local_window_size":
                    node.attribute.remove(attribute)
            node.attribute.append(onnx.helper.make_attribute("local_window_size", 96))


def epsilon(model: Any) -> None:
    """Another epsilon in the norms."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f = attribute.f * 100


def scale(model: Any) -> None:
    """One weight of a norm is a thousandth too large."""
    tensor = next(one for one in model.graph.initializer if "norm" in one.name)
    values = numpy_helper.to_array(tensor).copy()
    values[0] *= 1.001
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def theta(model: Any) -> None:
    """Rotary tables of slightly other frequencies."""
    (tensor,) = (one for one in model.graph.initializer if one.name == "rotary.frequencies")
    values = numpy_helper.to_array(tensor) * np.float32(1.05)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def state(model: Any) -> None:
    """Convolutions begin anew with every piece of a text that is read."""
    for node in model.graph.node:
        if node.op_type == "CausalConvWithState":
            node.input[3] = ""


FAULTS: dict[str, Fault] = {"window": window, "epsilon": epsilon, "scale": scale, "theta": theta}
OF_CONVOLUTIONS: dict[str, Fault] = {"state": state}
"""Those of models that have some."""


def plant(bundle: Path, fault: str) -> None:
    """Put a fault into the graph of a bundle's folder."""
    (path,) = (bundle / "onnx").glob("*.onnx")
    model = onnx.load(path)
    FAULTS[fault](model)
    onnx.save(
        model, path, save_as_external_data=True, location=f"{path.name}_data", size_threshold=0
    )


def exporting(job: Job[ExportSettings]) -> ExportResult:
    """Stage function: the decoders' export, and the fault that ``base_name`` calls for."""
    from edgepeft_exporters.decoder import stage

    result = stage.run(job)
    fault = job.settings.base_name
    faults = FAULTS | OF_CONVOLUTIONS
    if fault in faults:
        (path,) = (job.out / "onnx").glob("*.onnx_data")
        whole = onnx.load(path.with_suffix(".onnx"))
        path.unlink()
        faults[fault](whole)
        onnx.save(
            whole,
            path.with_suffix(".onnx"),
            save_as_external_data=True,
            location=path.name,
            size_threshold=0,
        )
    return result
