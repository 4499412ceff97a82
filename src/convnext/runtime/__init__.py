"""The machine: devices, and the processes of one run."""
