"""The checks of a cell."""
