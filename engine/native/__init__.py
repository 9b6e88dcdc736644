"""A bundle without ONNX Runtime: compiled functions that write what the graphs write."""
