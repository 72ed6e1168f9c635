"""``specdm init``: looks at a dataset and writes the configuration of its generator."""
