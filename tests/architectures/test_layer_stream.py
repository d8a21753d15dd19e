"""A model run layer by layer, as calibration runs it, gives transformers' own states."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from edgepeft.calibration.layer_stream import LayerStream
from edgepeft.checkpoints import encoder_base
from edgepeft.checkpoints.safetensors_io import SafetensorsSource
from edgepeft.checkpoints.skeleton import build_skeleton
from edgepeft.errors import EdgepeftError
from edgepeft.models.checks import not_calibrated_because
from edgepeft.models.inspect import inspect_model
from edgepeft.models.tasks import EMBEDDING
from tests.architectures import cases
from tests.architectures.encoders import Case, write_case
from tests.stages import run_stage

CASES = {
    "bert": Case("Bert", task=EMBEDDING),
    "roberta": Case("Roberta", task=EMBEDDING),
    "xlm-roberta": Case("XLMRoberta", task=EMBEDDING),
    "camembert": Case("Camembert", task=EMBEDDING),
    "mpnet": Case("MPNet", task=EMBEDDING),
    "electra": Case("Electra", task=EMBEDDING),
    "distilbert": Case("DistilBert", task=EMBEDDING),
    "deberta": Case("Deberta", task=EMBEDDING),
    "deberta-v3": Case("DebertaV2", task=EMBEDDING),
    "nomic-bert": Case("NomicBert", task=EMBEDDING),
    "gte": Case("Gte", task=EMBEDDING),
}
CONVOLVED = Case("DebertaV2", {"conv_kernel_size": 3, "conv_act": "gelu"}, task=EMBEDDING)


def streamed(folder: Path, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """States float32 [B, T, H] behind the last layer."""
    stream = LayerStream(build_skeleton(folder), SafetensorsSource.from_folder(folder))
    with torch.no_grad():
        inputs = stream.begin(ids, mask)
        for index in range(len(stream)):
            with stream.layer(index):
                inputs.hidden = stream.run(index, inputs)
    return inputs.hidden


@pytest.mark.parametrize("name", CASES)
def test_the_layers_in_turn_are_the_whole_model(tmp_path: Path, name: str) -> None:
    folder = write_case(CASES[name], tmp_path / "model")
    assert not_calibrated_because(inspect_model(folder)) is None
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(5, 500, (2, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, 13:] = False
    ids[1, 13:] = model.config.pad_token_id
    with torch.no_grad():
        wanted = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    # Some are published with other names, their products fused.
    base = run_stage(encoder_base.run, tmp_path / "base", {"task": EMBEDDING}, {"model": folder})
    found = streamed(base, ids, mask)
    torch.testing.assert_close(found[mask], wanted[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_a_decoders_layers_in_turn_are_the_whole_model(tmp_path: Path, family: str) -> None:
    folder = cases.write_case(cases.CASES[family.lower()], tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(5, 500, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model.get_decoder()(input_ids=ids).last_hidden_state
    stream = LayerStream(build_skeleton(folder), SafetensorsSource.from_folder(folder))
    states = streamed(folder, ids, torch.ones(2, 40, dtype=torch.bool))
    with stream.norm() as norm, torch.no_grad():
        torch.testing.assert_close(norm(states), wanted, rtol=1e-4, atol=1e-4)


def test_what_happens_between_layers_is_noticed(tmp_path: Path) -> None:
    folder = write_case(CONVOLVED, tmp_path / "model")
    assert not_calibrated_because(inspect_model(folder)) == "it convolves between its layers"
    ids = torch.randint(5, 500, (1, 20), generator=torch.Generator().manual_seed(0))
    with pytest.raises(EdgepeftError, match="does not run its layers in order"):
        streamed(folder, ids, torch.ones(1, 20, dtype=torch.bool))
