"""How well a block of samples uses the device: its operations, what the device can do at most, and time in kernels."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from torchgeo_specdm.datasets.device import same_arithmetic

# Rows of the matrices on a GPU, where larger ones are no faster, and how often they are multiplied
_ROWS, _TIMES = 8192, 20


def matrix_rate(device: torch.device, scale: float = 1.0) -> float:
    """Operations per second of a product of large square matrices in bfloat16, the median of many [1/s]."""
    rows = max(64, round(_ROWS * min(1.0, scale)))
    a, b = (torch.randn(rows, rows, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    with torch.no_grad(), same_arithmetic(device):
        for _ in range(_TIMES + 2):
            start = now(device)
            torch.matmul(a, b)
            seconds.append(now(device) - start)
    # The first ones choose a kernel
    return float(2 * rows**3 / median(seconds[2:]))


def operations(block: Callable[[], object]) -> dict[str, float]:
    """Multiplications and additions of a block that is not compiled, as PyTorch counts them.

    Returns:
        ``denoiser``, of all its evaluations, and ``rest``, which is decoding.
    """
    with FlopCounterMode(display=False) as counter:
        block()
    total = counter.get_total_flops()
    denoiser = sum(counter.get_flop_counts().get('JointDenoiser', {}).values())
    return {'denoiser': float(denoiser), 'rest': float(total - denoiser)}


def kernel_seconds(block: Callable[[], object], device: torch.device) -> float:
    """Time of a block during which a kernel runs; on a CPU, an operator [s]."""
    cuda = device.type == 'cuda'
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as found:
        block()
        now(device)
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    spans = [(e.time_range.start, e.time_range.end) for e in found.events() if e.device_type == kind and _is_kernel(e)]
    return _covered(spans) / 1e6


def _is_kernel(event: Any) -> bool:
    """Neither a copy nor a name that the profiler lays over several kernels."""
    return not event.name.startswith(('Memcpy', 'Memset')) and not getattr(event, 'is_user_annotation', False)


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    length, reached = 0.0, float('-inf')
    for start, end in sorted(spans):
        length += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return length


def now(device: torch.device) -> float:
    """The time when a device has done what it was told [s]."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()
