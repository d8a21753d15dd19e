"""The merge of a base and an adapter, one tensor at a time, and which weights later stages read."""
