"""Building the cells of a matrix: what they share is done once, the rest side by side."""
