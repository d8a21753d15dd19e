"""Grids, rounding algorithms, and the stage that puts a checkpoint through them."""
