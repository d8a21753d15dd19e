"""Learned scales: nearer to the exact model with the codes as they were, and only where asked for."""

from __future__ import annotations

import pytest
import torch

from edgepeft.calibration.data import Batch
from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton, linear_weight_names
from edgepeft.quantization.algorithms import find_algorithm
from edgepeft.quantization.divergence import final_states
from edgepeft.quantization.grids import IntGrid, are_half, unpack_weight
from edgepeft.quantization.learning import Learner, distance
from edgepeft.quantization.packed_weights import Parts
from edgepeft.quantization.rounding import round_in_sequence
from tests.conftest import ModelMaker
from tests.simulation import override


def batches(seed: int, count: int = 4) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        ids = torch.randint(3, 500, (2, 48), generator=generator)
        mask = torch.ones_like(ids, dtype=torch.bool)
        mask[1, 40:] = False
        made.append(Batch(ids, mask, mask, "generic"))
    return made


@pytest.mark.parametrize("family", ["llama", "gemma3", "phi3"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_learned_scales_bring_the_rounded_model_nearer_to_the_exact_one(
    tiny_model: ModelMaker, family: str, symmetric: bool
) -> None:
    folder = tiny_model(family)
    source = SafetensorsSource.from_folder(folder)
    grid = IntGrid(4, 32, symmetric)
    chosen = dict.fromkeys(linear_weight_names(build_skeleton(folder)), grid)
    data = batches(0)
    exact = final_states(LayerStream(build_skeleton(folder), source), data, {})
    found: dict[int, Parts] = {}
    off: dict[int, float] = {}
    for steps in (0, 24):
        stream = LayerStream(build_skeleton(folder), source)
        learner = Learner(stream, data, steps) if steps else None
        units = round_in_sequence(
            stream, data, source, chosen, find_algorithm("gptq"), learner=learner
        )
        found[steps] = {name: parts for unit in units for name, parts in unit.items()}
        values = {
            name: unpack_weight(grid, source.specs[name].shape[1], parts).dequantize()
            for name, parts in found[steps].items()
        }
        rounded = LayerStream(build_skeleton(folder), override(source, values))
        states = final_states(rounded, data, {})
        off[steps] = sum(float(distance(a, b).mean()) for a, b in zip(states, exact, strict=True))
    # Random models have nothing in common from one text to the next, so it is the text they were learned on.
    assert off[24] < 0.97 * off[0]
    first = next(iter(chosen))
    plain, learned = found[0][first], found[24][first]
    assert torch.equal(plain["codes"], learned["codes"])
    assert not torch.equal(plain["scales"], learned["scales"])
    assert all(are_half(parts["scales"]) for parts in found[24].values())


def test_every_token_counts_for_its_own_size() -> None:
    wanted = torch.tensor([[[3.0, 4.0], [300.0, 400.0]]])
    torch.testing.assert_close(
        distance(1.1 * wanted, wanted), torch.full((1, 2), 0.01), rtol=1e-4, atol=0
    )
