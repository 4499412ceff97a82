"""What a network has learned, in figures and pictures."""
