"""One run: its arguments, its stages in order, raw and as changed by the mitigations."""
