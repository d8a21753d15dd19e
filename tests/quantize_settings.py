"""What tests that run the quantize stage alone tell it, as a build does where its recipe says nothing."""

from __future__ import annotations

from typing import Any

UNSAID: dict[str, Any] = {
    "algorithm": "rtn",
    "block_size": 32,
    "symmetric": False,
    "head": "int8",
    "head_block_size": 64,
}
