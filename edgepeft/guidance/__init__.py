"""Answers within a grammar: what may be asked for, and which tokens it lets come next."""

from edgepeft.guidance.grammar import FREE, Grammar

__all__ = ["FREE", "Grammar"]
