"""Serving trained models over http: a front process that reads and queues, and worker processes that compute."""
