"""What a trained model answers about images."""
