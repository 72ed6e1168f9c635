"""``specdm.json``: what a checkpoint says of itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.checkpoint import FORMAT, read_json
from torchgeo_specdm.diffusion import SOLVERS, NoiseSchedule
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.models import Stream
from torchgeo_specdm.spec import DatasetSpec
from torchgeo_specdm.strangers import check_folder
from torchgeo_specdm.typed import construct

T = TypeVar('T')
NAME = 'specdm.json'
_SCHEDULE = 'scheduler/scheduler_config.json'
# What a patch may measure [px]: of a description alone, nobody knows what memory it will ask for
_LARGEST_PATCH = 8192
# Of shares in single precision that add up to 1
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Latents:
    """Mean and standard deviation of each latent channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself.

    Attributes:
        format: Of the checkpoint.
        spec: The dataset that the generator imitates.
        streams: In the order of the latents' channels.
        latents: Statistics of the latents.
        solver: ``solver`` and ``steps`` where a caller names none.
        class_shares: Quantiles of the class shares of the train samples, ``(K, 21)``.
        share_rows: Class shares of some of the train samples, ``(R, K)``.
        absent: Whether the denoiser has learned images without masks and masks without images.
        training: How the generator was trained; ``command`` and figures.
        licence: That of the data.
        attribution: The notice that must accompany the data.

    Raises:
        SpecDMError: The parts contradict each other or make no sense.
    """

    format: int
    spec: DatasetSpec
    streams: tuple[Stream, ...]
    latents: Latents
    solver: Mapping[str, Any]
    class_shares: tuple[tuple[float, ...], ...] | None = None
    share_rows: tuple[tuple[float, ...], ...] | None = None
    absent: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ''
    attribution: str = ''

    def __post_init__(self) -> None:
        if self.spec.patch_size > _LARGEST_PATCH:
            raise SpecDMError(f'patch_size is {self.spec.patch_size} px; the largest is {_LARGEST_PATCH} px')
        if len(self.latents.mean) != len(self.latents.std) or not all(std > 0 for std in self.latents.std):
            raise SpecDMError('latents must have a mean and a positive std for each channel')
        solver, steps = self.solver.get('solver'), self.solver.get('steps')
        if not isinstance(solver, str) or solver not in SOLVERS or type(steps) is not int or steps < 1:
            raise SpecDMError(f'solver must name one of {", ".join(SOLVERS)} and its steps')
        shares = self.class_shares
        if shares is not None and not (
            len(shares) == self.spec.num_classes
            and len({len(row) for row in shares}) == 1
            and all(0 <= share <= 1 for row in shares for share in row)
        ):
            raise SpecDMError(f'class_shares must be a row of shares for each of {self.spec.num_classes} classes')
        if not all(
            len(row) == self.spec.num_classes
            and abs(sum(row) - 1) < _ROUNDING
            and all(0 <= share <= 1 for share in row)
            for row in self.share_rows or ()
        ):
            raise SpecDMError(f'share_rows must be rows of {self.spec.num_classes} shares that add up to 1')

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {'spec': self.spec.to_dict()}


def read_description(folder: str | Path) -> Description:
    """The description of a checkpoint: a folder, a name or an address on the hub.

    Raises:
        CheckpointError: The checkpoint is missing, unsafe, damaged or of a newer format.
    """
    folder = resolve(folder)
    check_folder(folder)
    path = folder / NAME
    values = read_json(path)
    found = values.get('format')
    if type(found) is not int or found < 1:
        raise CheckpointError(f'{path} declares no format: it describes no checkpoint')
    if found > FORMAT:
        raise CheckpointError(
            f'{folder} has checkpoint format {found}, this release reads up to {FORMAT}: upgrade torchgeo-specdm'
        )
    return _read(Description, values, path)


def read_schedule(folder: Path) -> NoiseSchedule:
    """The forward process of a checkpoint.

    Raises:
        CheckpointError: Its file is missing or damaged.
    """
    path = folder / _SCHEDULE
    return _read(NoiseSchedule, read_json(path), path)


def read_conditions(checkpoint: str | Path) -> frozenset[str]:
    """As :meth:`SpecDMPipeline.read_conditions <torchgeo_specdm.pipeline.SpecDMPipeline.read_conditions>`."""
    folder = resolve(checkpoint)
    return known_conditions(folder, read_description(folder))


def known_conditions(folder: Path, description: Description) -> frozenset[str]:
    """As :func:`read_conditions`, of a checkpoint whose description was read."""
    config = read_json(folder / 'denoiser' / 'config.json')
    clocks, classes = config.get('clocks', 1), config.get('num_classes', 0)
    if type(clocks) is not int or type(classes) is not int:
        raise CheckpointError(f'{folder / "denoiser" / "config.json"}: clocks and num_classes must be numbers')
    streams = {stream.name for stream in description.streams} if clocks > 1 else set()
    dates = {'image'} if 'image1' in streams else set()
    others = {'shares': classes, 'agreement': description.absent}
    return frozenset(streams | dates | {name for name, taken in others.items() if taken})


def _read(kind: type[T], values: dict[str, Any], path: Path) -> T:
    try:
        return construct(kind, values, path.name)
    except SpecDMError as error:
        raise CheckpointError(f'{path}: {error}; copy the checkpoint again, or upgrade torchgeo-specdm') from error
