"""What a bundle is measured by, and the proof that the measures themselves are right."""
