"""What loading.py measures."""
