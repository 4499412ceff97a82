"""Readers of data sets, a module for each format: folders, tables, COCO's JSON, label maps, digits."""
