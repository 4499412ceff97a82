"""How good a model is: metrics, and the pictures that show where it fails."""
