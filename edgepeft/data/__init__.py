"""Rows in, token ids out: reading data files, checking them, and the one prompt function.

Nothing is imported here, so that ``edgepeft.data.prompt`` stays light enough for the device.
"""
