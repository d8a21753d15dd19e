"""Whether a bundle is the model that was trained: reference, verification, second witness, gates, report."""
