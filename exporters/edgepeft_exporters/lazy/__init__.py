"""Graphs whose weights are still expressions: codes are bound into them, and they are written lazily."""
