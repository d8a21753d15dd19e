"""Which base an adapter is merged into, and the merge itself, one tensor at a time."""
