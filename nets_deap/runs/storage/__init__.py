"""How a run lies on the disk: the folder, its lock, and the formats of its files."""
