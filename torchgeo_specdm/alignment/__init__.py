"""Judges how well mask and image belong together, and acts on it."""
