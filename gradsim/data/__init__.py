"""The dataset and the run folder."""
