"""The model card of a run: facts gathered while its data are at hand, and sections written from its files."""
