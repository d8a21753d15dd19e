"""A bundle as a folder: how it is laid out, what its manifest says, and what may be read of it.

A bundle may come from anywhere, and the runtimes obey what they find in one. So everything that they would read
or obey is examined here first, with the standard library alone; what is not known to be harmless is refused by
name.
"""
