"""Weights on disk as lazy tensor sources: nothing holds the model, everything holds one tensor."""
