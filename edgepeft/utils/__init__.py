"""Small things that every room may use: files read within limits."""
