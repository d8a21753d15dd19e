"""What users write: recipes and the text they are written in."""
