"""What is used of libraries beyond what they promise: private parts, and functions of theirs that are replaced.

Each lies in a module of its own, whose docstring says which version it was written for, what it uses, why, and
what would make it unnecessary. Each has a test in ``tests/compat/`` of the same name, which fails where the
library has changed. Elsewhere no name of a library that begins with an underscore is used.
"""
