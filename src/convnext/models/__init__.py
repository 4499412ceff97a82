"""What a task runs: a backbone and what the task puts on it."""
