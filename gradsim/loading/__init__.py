"""Models that were trained elsewhere: their weights from files and objects, as a cell and its parameters."""
