"""torch's exporter traces parameters without values, and leaves them to be told."""

from __future__ import annotations

import torch

from edgepeft_exporters.compat.torch_fake import fake_parameters, has_no_value, without_values


def test_weights_come_out_of_the_exporter_without_values_and_constants_with_theirs() -> None:
    class Scaled(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(4, 4, device="meta")
            self.register_buffer("scale", torch.arange(4.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.inner(x) * self.scale
            return made

    module = Scaled().eval()
    with without_values():
        fake_parameters(module, torch.float16)
        inputs = (torch.empty(2, 4, dtype=torch.float16),)
    assert {one.dtype for one in module.parameters()} == {torch.float16}
    assert all(isinstance(one, torch.nn.Parameter) for one in module.parameters())
    program = torch.onnx.export(module, inputs, dynamo=True, optimize=False, verbose=False)
    found = {name: value.const_value for name, value in program.model.graph.initializers.items()}
    assert {name for name, value in found.items() if has_no_value(value)} == {
        *("inner.weight", "inner.bias"),
    }
    assert found["scale"].numpy().tolist() == [0.0, 1.0, 2.0, 3.0]
