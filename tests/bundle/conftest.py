"""The small bundle of the runtime's tests, to be spoiled."""

from tests.runtime.conftest import small, tiny_bundle

__all__ = ["small", "tiny_bundle"]
