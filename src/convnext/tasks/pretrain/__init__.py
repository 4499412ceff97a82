"""Self-supervised pre-training: a folder a method."""
