"""What the machine offers: devices, and the processes of one run."""
