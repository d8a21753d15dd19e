"""Graphs of architectures that the graph builder has no class for: its own parts, put together another way.

A module here is imported once the builder is there, whose base class it extends. What is checked is the graph, in
the architecture matrix of the tests.
"""
