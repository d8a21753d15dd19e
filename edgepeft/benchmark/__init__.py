"""Bundles timed side by side, beside llama.cpp where it is installed."""
