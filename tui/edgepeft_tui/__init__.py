"""The terminal wizard: a face of the core that starts jobs only as edgepeft subprocesses."""
