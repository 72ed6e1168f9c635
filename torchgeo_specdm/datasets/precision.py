"""In which precision a dataset evaluates its denoiser, and whether it compiles it.

The solver and the autoencoder compute in float32 whatever the precision: decoding takes a small part of the time, and
the eight bits of bfloat16 would show in the images.
"""

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models import JointDenoiser

# Names of Lightning's
PRECISIONS = ('32-true', 'bf16-mixed')
# Tests take one that compiles nothing
_BACKEND = 'inductor'


def check_precision(precision: str, compiled: bool) -> None:
    """Refuse what a dataset cannot compute in.

    Raises:
        SpecDMError: There is no such precision, or this PyTorch cannot compile the same bits each time.
    """
    if precision not in PRECISIONS:
        raise SpecDMError(f'precision is {precision!r}; it must be one of {", ".join(PRECISIONS)}')
    # Came after the mode in which no kernel is chosen by its time, which decides the order of sums
    if compiled and 'isolate_recompiles' not in inspect.signature(torch.compile).parameters:
        raise SpecDMError(
            f'compile=True needs a newer PyTorch than {torch.__version__}, whose compiled networks differ in the last '
            'bits from process to process: update torch, or leave compile out'
        )


def set_precision(denoiser: JointDenoiser, precision: str, compiled: bool) -> None:
    """Have a denoiser compute so from now on; it answers in float32.

    Args:
        denoiser: Changed in place.
        precision: Of :data:`PRECISIONS`.
        compiled: Whether to compile it at its first evaluation.
    """
    forward: Any = _compiled(denoiser) if compiled else denoiser.forward
    if not compiled and precision == '32-true':
        return
    device = next(denoiser.parameters()).device.type

    def evaluate(z: Tensor, clocks: Tensor, shares: Tensor | None = None) -> Tensor:
        # Weights are rounded once in a block: same_arithmetic is an autocast around this, which keeps them
        with torch.autocast(device, torch.bfloat16, enabled=precision == 'bf16-mixed'):
            answer: Tensor = forward(z, clocks, shares)
        return answer.float()

    denoiser.forward = evaluate  # type: ignore[method-assign, assignment]


def _compiled(denoiser: JointDenoiser) -> Any:
    """What ``denoiser`` does, as one graph for all that guidance, agreement and given streams ask of it."""
    # One graph or an error: where PyTorch gave up and evaluated the rest as it stands, the last bits would differ
    compiler: Any = torch.compile
    graph = compiler(
        denoiser.forward,
        fullgraph=True,
        dynamic=False,
        backend=_BACKEND,
        isolate_recompiles=True,
        **({'options': {'deterministic': True}} if _BACKEND == 'inductor' else {}),
    )

    def forward(z: Tensor, clocks: Tensor, shares: Tensor | None) -> Tensor:
        clocks = clocks[:, None].expand(-1, denoiser.clocks) if clocks.ndim == 1 else clocks
        if denoiser.num_classes and shares is None:
            shares = z.new_full((len(z), denoiser.num_classes), torch.nan)
        # Alike in type and strides, of which PyTorch makes graphs of their own
        told = None if shares is None else shares.to(z).contiguous()
        try:
            with warnings.catch_warnings():
                # Of code in diffusers
                warnings.filterwarnings('ignore', 'Dynamo detected a call to a', UserWarning)
                answer: Tensor = graph(z.contiguous(), clocks.to(z).contiguous(), told)
        except torch._dynamo.exc.TorchDynamoException as error:
            # Behind an empty line PyTorch tells its developers where it was
            reason = ' '.join(str(error).partition('\n\n')[0].split())
            raise SpecDMError(
                f'compile=True: PyTorch cannot compile the denoiser on {z.device} ({reason}): leave compile out, or '
                'install what it needs (a C++ compiler on a CPU, Triton on a GPU)'
            ) from error
        return answer

    return forward
