"""A trained model out of this project: to other libraries."""
