"""Whether a bundle still is the model that was trained: the reference, the measures, the report, the gates."""
