"""Adapters made for hot-swap bundles, with numpy and onnxruntime alone: a device can add one."""
