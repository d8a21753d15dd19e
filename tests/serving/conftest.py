"""The bundle that the server's tests serve."""

from __future__ import annotations

from tests.hot_swap.fixtures import Find, built, filled, own

__all__ = ["Find", "built", "filled", "own"]
