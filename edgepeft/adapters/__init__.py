"""Adapters: the methods that train them, their folders, and what they were trained on."""
