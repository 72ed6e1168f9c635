"""How good synthetic pairs are: measured against the real ones they imitate, sample by sample."""
