"""Randomness by name: what is drawn depends on a few words alone, whatever was drawn before."""

import numpy as np
import torch


def mixed_seed(*words: int) -> int:
    """A seed of 63 bits, mixed from words that are not negative; zeros at the end say nothing."""
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def mixed_generator(*words: int) -> torch.Generator:
    """A generator on the CPU, seeded by :func:`mixed_seed`."""
    return torch.Generator().manual_seed(mixed_seed(*words))
