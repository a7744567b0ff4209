"""How fast blissdata is, as ratios: beside blissdata 2.4.5 and beside the bare server, in one run."""
