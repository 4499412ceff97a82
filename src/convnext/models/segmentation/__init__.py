"""UperNet and its losses."""
