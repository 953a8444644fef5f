"""Conversion of ONNX operators to TensorFlow, one module per kind."""
