"""What mitigations do, from their docstrings, in plain loops over what `reference` has, by where they act."""
