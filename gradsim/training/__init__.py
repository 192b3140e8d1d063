"""Training: batches, gradient, update, repeat; with what is recorded on the way, and checkpoints."""
