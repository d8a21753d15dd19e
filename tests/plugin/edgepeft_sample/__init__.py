"""A package that adds to edgepeft: a rounding algorithm, a target, a method and a stage, a file each."""
