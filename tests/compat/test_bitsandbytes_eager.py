"""bitsandbytes is loaded without torch's compiler, and its operators compute what they do with it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PLAIN = "import bitsandbytes"
EAGER = """
from edgepeft.compat.bitsandbytes_eager import import_without_compiler
import_without_compiler()
"""
LOOK = """
import json, os, sys
loaded = "torch._inductor.compile_fx" in sys.modules
import torch, bitsandbytes as bnb
torch.manual_seed(0)
weight = torch.randn(64, 128)
codes, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
back = bnb.functional.dequantize_4bit(codes, state)
rows, absmax, _ = bnb.functional.int8_vectorwise_quant(weight.half())
print(json.dumps([loaded, codes.sum().item(), back.double().sum().item(), rows.sum().item(),
                  absmax.double().sum().item(), os.environ.get("TORCHDYNAMO_DISABLE")]))
"""


def _seen(how: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", how + LOOK], capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_the_compiler_stays_out_and_the_numbers_stay() -> None:
    plain, eager = _seen(PLAIN), _seen(EAGER)
    assert plain[0], (
        "bitsandbytes no longer loads the compiler: edgepeft.compat.bitsandbytes_eager can go"
    )
    assert not eager[0]
    assert eager[1:] == plain[1:]


def test_without_bitsandbytes_the_rest_is_loaded_all_the_same() -> None:
    code = (
        "import sys; sys.modules['bitsandbytes'] = None\n"
        "from edgepeft.compat.bitsandbytes_eager import import_without_compiler\n"
        "import_without_compiler(); import torch; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
