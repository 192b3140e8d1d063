"""What plugins stand on: the contract of each family, and the hooks of a run."""
