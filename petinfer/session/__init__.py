"""From a model file to an onnxruntime session on a device."""
