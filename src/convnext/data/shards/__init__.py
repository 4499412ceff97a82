"""Tar shards: writing, reading, and fetching them before their turn."""
