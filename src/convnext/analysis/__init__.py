"""Analyses of what a network has learned, in figures and pictures."""
