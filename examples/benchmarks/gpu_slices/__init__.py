"""What gpu.py does with a GPU: a plan of jobs, how each is done in slices of time, and how results come back."""
