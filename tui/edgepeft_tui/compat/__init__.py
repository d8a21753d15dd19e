"""What the wizard uses of libraries beyond what they promise, as ``edgepeft/compat/`` does for the core."""
