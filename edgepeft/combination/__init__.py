"""Several adapters made into one, or an adapter made smaller, and what that costs each task."""
