"""Graphs of architectures that the graph builder has no class for: its own parts, put together another way.

A class here goes before the builder's base class, and its ``super()`` is that. What is checked is the graph, in
the architecture matrix of the tests.
"""
