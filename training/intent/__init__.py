"""The two small ONNX models of the intent tier: how they are trained, exported and judged."""
