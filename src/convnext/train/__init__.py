"""The one training loop and what it needs: optimizer, schedule, averaged weights, checkpoints, run directory."""
