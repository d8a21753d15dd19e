"""The hot-swap bundles of every case, exported once a session."""

from __future__ import annotations

from tests.hot_swap.fixtures import built, filled, own
from tests.runtime.conftest import tiny_bundle
from tests.stages import Find

__all__ = ["Find", "built", "filled", "own", "tiny_bundle"]
