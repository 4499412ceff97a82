"""Recipes for classification."""
