"""Several cells measured alike: sized to one budget, run over the same, side by side in one dataset."""
