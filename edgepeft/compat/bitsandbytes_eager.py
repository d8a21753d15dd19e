"""bitsandbytes loaded without torch's compiler.

Written for bitsandbytes 0.50. It wraps four operators of last resort in ``torch.compile`` while it is imported,
which loads all of torch's compiler: a third of what starting a process of stages costs. Processors and GPUs have
kernels of their own for them, so what would be compiled is never called. Sets the variable by which torch leaves
functions as they are, for as long as the import takes. A compilation at the first call would make this
unnecessary.
"""

from __future__ import annotations

import contextlib
import os

_SWITCH = "TORCHDYNAMO_DISABLE"


def import_without_compiler() -> None:
    """Import bitsandbytes, as PEFT would, where it is installed."""
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "1"
    try:
        with contextlib.suppress(ImportError):
            import bitsandbytes  # noqa: F401
    finally:
        if before is None:
            del os.environ[_SWITCH]
        else:
            os.environ[_SWITCH] = before
