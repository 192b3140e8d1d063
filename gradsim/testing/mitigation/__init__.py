"""The checks of a mitigation."""
