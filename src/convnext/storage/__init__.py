"""Files on disk: atomic writes, caches and downloads."""
