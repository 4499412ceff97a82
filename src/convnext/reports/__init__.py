"""Plots, tables and model cards."""
