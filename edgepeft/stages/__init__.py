"""Stages: what one is, the processes they run in, and the registry of their kinds."""
