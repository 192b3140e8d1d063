"""Threads, compiled kernels, memory of the process, progress."""
