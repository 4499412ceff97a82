"""Where images and their labels come from: a file for each form of data."""
