"""Experiment trackers: a training's curves, and what its bundles were measured at, in one run of each."""
