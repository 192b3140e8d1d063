"""Compiled passes of the shipped cells: one file a cell."""
