"""Run folders: how a stage's output is published whole, which runs there are, digests of what they read."""
