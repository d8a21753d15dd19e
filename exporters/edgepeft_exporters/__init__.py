"""Exporters: from checkpoints and codes to graphs and bundles. Each imports its libraries only when it works."""
