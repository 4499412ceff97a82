"""Single images: reading files of any kind, and the rule by which they become a network's input."""
