"""Networks as ONNX models, with standard operators."""
