"""Augmentation of single images."""
