"""Models of the tasks: a backbone and what the task puts on it."""
