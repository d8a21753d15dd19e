"""A recipe for what a person has: a model, rows, and perhaps an adapter."""

from edgepeft.starter.recipe import DEFAULT_MODEL, DEFAULT_TARGET, Starter, start_recipe

__all__ = ["DEFAULT_MODEL", "DEFAULT_TARGET", "Starter", "start_recipe"]
