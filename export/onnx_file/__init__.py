"""The network as one ONNX file: graph, precisions and description."""
