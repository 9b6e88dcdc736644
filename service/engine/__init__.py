"""Runs a bundle's graphs on ONNX Runtime. Knows nothing of HTTP, users or torch."""
