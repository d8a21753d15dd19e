"""edgepeft: take a fine-tuned language model to the device it must run on, and prove it arrived."""

from edgepeft.utils import telemetry

__version__ = "0.1.0"

# First of all: onnxruntime reports as soon as it is imported.
telemetry.disable()
