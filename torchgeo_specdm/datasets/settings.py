"""Everything that the bits of a synthetic sample depend on, and one name for it all."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.datasets.conditions import Condition
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.pipeline import GUIDANCE

# The law by which this package makes samples: another number where a change of the code changes their bits
SAMPLING = 2
_BATCH_SIZE = {'cpu': 8, 'cuda': 64}
# Of Linux
_CPUINFO = Path('/proc/cpuinfo')


@dataclass(frozen=True)
class Settings:
    """Two datasets of equal settings serve the same samples, bit by bit.

    Attributes:
        generator: SHA-256 of the checkpoint, see :func:`~torchgeo_specdm.checkpoint.folder_hash`.
        filter: SHA-256 of the filter; None where all samples are served.
        candidates: Batches of candidates for a block; None without a filter.
        seed: Names one endless dataset.
        steps: Time steps of the solver.
        solver: Its name.
        conditions: What tells each condition from others, see
            :meth:`~torchgeo_specdm.datasets.conditions.Condition.identity`.
        guidance: How strongly to pull towards them; None without any.
        block_size: Samples that are generated together.
        rounding: Data type to whose values images are rounded.
        device: Type and model of what computes: ``cpu AVX2 AMD EPYC 7763 64-Core Processor``, ``cuda NVIDIA H100 80GB
            HBM3``.
        precision: Of the denoiser, in :data:`~torchgeo_specdm.datasets.precision.PRECISIONS`.
        compile: Whether it is compiled.
        libraries: Version by name of the libraries whose arithmetic this is.
        sampling: Version of this package's sampling.
        fresh: Samples of an epoch where each epoch goes on behind the one before. It changes no sample, but such blocks
            are deleted once they are read, so they are kept apart from others.
    """

    generator: str
    filter: str | None
    candidates: int | None
    seed: int
    steps: int
    solver: str
    conditions: Sequence[Mapping[str, Any]]
    guidance: float | None
    block_size: int
    rounding: str
    device: str
    precision: str
    compile: bool
    libraries: Mapping[str, str]
    sampling: int = SAMPLING
    fresh: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values; ``fresh`` is among them where it means anything."""
        told = asdict(self)
        return told if self.fresh is not None else {name: value for name, value in told.items() if name != 'fresh'}

    @property
    def device_type(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.device.partition(' ')[0]

    @property
    def key(self) -> str:
        """SHA-256 of the settings, the name of the folder of their blocks."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(',', ':'), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def require(self, checkpoint: Path, pair_filter: Path | None, device: torch.device) -> None:
        """Refuse to generate from other weights, or on another machine, than the settings say.

        Raises:
            SpecDMError: Says what differs.
        """
        for folder, expected in ((checkpoint, self.generator), (pair_filter, self.filter)):
            if folder is not None and folder_hash(folder) != expected:
                raise SpecDMError(f'{folder} has changed since the dataset was opened: make the dataset anew')
        if (found := device_model(device)) != self.device:
            raise SpecDMError(
                f'the dataset was opened for {self.device}, and this process computes on {found}, whose samples differ '
                'in the last bits: make the dataset anew here'
            )


def device_model(device: torch.device) -> str:
    """Type and model of a device; a GPU is asked."""
    if device.type == 'cuda':
        return f'cuda {torch.cuda.get_device_name(device)}'
    # Both: libraries choose by the maker, and a system may hide instructions
    return f'{device.type} {torch.backends.cpu.get_cpu_capability()} {_processor()}'


@cache
def _processor() -> str:
    """Model of the processor; the architecture where the system does not tell."""
    text = _CPUINFO.read_text(encoding='utf-8', errors='replace') if _CPUINFO.is_file() else ''
    names = [line.partition(':')[2].strip() for line in text.splitlines() if line.startswith('model name')]
    return next(filter(None, [*names, platform.processor(), platform.machine()]), 'unknown')


def decide(
    checkpoint: Path,
    pair_filter: Path | None,
    conditions: Sequence[Condition],
    device: torch.device,
    *,
    seed: int,
    steps: int,
    solver: str,
    rounding: str,
    batch_size: int | None,
    candidates: int,
    guidance: float | None,
    precision: str = '32-true',
    compile: bool = False,
    fresh: int | None = None,
) -> Settings:
    """The settings that arguments of :class:`~torchgeo_specdm.datasets.SpecDMSynthetic` mean on a device.

    All files of the checkpoint and the filter are read for their hash, and given samples.
    """
    return Settings(
        generator=folder_hash(checkpoint),
        filter=None if pair_filter is None else folder_hash(pair_filter),
        candidates=None if pair_filter is None else candidates,
        seed=seed,
        steps=steps,
        solver=solver,
        conditions=[condition.identity() for condition in conditions],
        guidance=_guidance(conditions, guidance),
        block_size=batch_size or _BATCH_SIZE.get(device.type, _BATCH_SIZE['cpu']),
        rounding=rounding,
        device=device_model(device),
        precision=precision,
        compile=compile,
        libraries={name: version(name) for name in ('torch', 'diffusers')},
        fresh=fresh,
    )


def _guidance(conditions: Sequence[Condition], told: float | None) -> float | None:
    if not conditions:
        return None
    named = (told, *(condition.guidance for condition in conditions), GUIDANCE)
    return float(next(value for value in named if value is not None))
