"""Where synthetic samples are generated, and what keeps their bits the same there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import get_worker_info

from torchgeo_specdm.errors import SpecDMError

# Not cuDNN's: whether PyTorch prefers it changes from version to version
_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def resolve_device(device: str | torch.device | None, forked: bool = False) -> torch.device:
    """The device to generate on, decided at first use.

    Args:
        device: By default the GPU if there is one and this process may use it.
        forked: This process was forked and cannot use CUDA.

    Raises:
        SpecDMError: CUDA is asked for, and absent or not to be used here.
    """
    if device is None:
        allowed = not forked and get_worker_info() is None
        device = 'cuda' if allowed and torch.cuda.is_available() else 'cpu'
    device = parse_device(device)
    check_device(device, forked)
    return device


def check_device(device: torch.device, forked: bool) -> None:
    """Refuse a GPU where there is none, in a forked process and in the workers of a ``DataLoader``.

    Raises:
        SpecDMError: Says why it cannot be used.
    """
    if device.type != 'cuda':
        return
    if forked or get_worker_info() is not None:
        raise SpecDMError(
            'workers and forked processes do not generate on the GPU: call materialize() before the workers start, '
            "give the DataLoader num_workers=0, or the dataset device='cpu'"
        )
    if not torch.cuda.is_available():
        raise SpecDMError(
            f"device is '{device}', but PyTorch finds no GPU: use device='cpu', or install PyTorch with CUDA"
        )


def parse_device(device: str | torch.device) -> torch.device:
    """The device of that name; does not touch it.

    Raises:
        SpecDMError: The name means nothing.
    """
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise SpecDMError(f"device is {device!r}; it must be 'cpu', 'cuda' or 'cuda:N'") from error


def other_gpus(device: torch.device | None, number: int) -> list[str]:
    """Names of GPUs that make ``number`` of them together with that of this process.

    Args:
        device: Of this process; ``cuda`` and None are the current one.
        number: Of GPUs.

    Raises:
        SpecDMError: There are fewer.
    """
    if number <= 1:
        return []
    if (there := torch.cuda.device_count()) < number:
        raise SpecDMError(f'devices is {number}, but PyTorch finds {there} GPUs')
    own = device.index if device is not None and device.index is not None else torch.cuda.current_device()
    return [f'cuda:{index}' for index in range(there) if index != own][: number - 1]


@contextmanager
def same_arithmetic(device: torch.device) -> Iterator[None]:
    """Shield the bits of a block from what the process around it has chosen.

    The number of threads, the default type of tensors, the algorithms that cuDNN picks by timing, TF32, on some CPUs
    bfloat16, and which attention is allowed all change float32 sums; those of bfloat16 on a GPU change also with the
    type in which parts of them are added.
    """
    quiet = torch.autocast(device.type, enabled=False)
    with quiet, sdpa_kernel(_ATTENTION), _settings(_exact(device.type)):
        threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)


def _exact(device_type: str) -> list[tuple[Any, str, Any]]:
    # Their attributes depend on the version
    backends: Any = torch.backends
    cudnn, matmul, mkldnn = backends.cudnn, backends.cuda.matmul, backends.mkldnn
    # PyTorch >= 2.9 names the precision of each operator, and its older flags fail where a user has done so
    named = hasattr(cudnn, 'conv')
    if device_type == 'cpu':
        return [(operator, 'fp32_precision', 'ieee') for operator in (mkldnn.conv, mkldnn.matmul)] if named else []
    exact: list[tuple[Any, str, Any]] = [(cudnn, 'benchmark', False), (cudnn, 'deterministic', True)]
    exact.append((matmul, 'allow_bf16_reduced_precision_reduction', False))
    if named:
        return [*exact, (cudnn.conv, 'fp32_precision', 'ieee'), (matmul, 'fp32_precision', 'ieee')]
    return [*exact, (cudnn, 'allow_tf32', False), (matmul, 'allow_tf32', False)]


@contextmanager
def _settings(wanted: list[tuple[Any, str, Any]]) -> Iterator[None]:
    before = [getattr(owner, name) for owner, name, _ in wanted]
    try:
        for owner, name, value in wanted:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(wanted, before, strict=True):
            setattr(owner, name, value)
