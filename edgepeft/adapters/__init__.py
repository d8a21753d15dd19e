"""Adapter folders: what their configuration, their tensors' names and their other files mean."""
