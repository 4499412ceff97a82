"""Kernels: in C for CPUs (`native`), in Triton for CUDA, imported only where they run."""
