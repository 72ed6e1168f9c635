"""What a generator must know of the data it imitates, and the tensors that every dataset exchanges.

============ ================================ =============================
task         ``image`` (float32, raw units)   ``mask`` (int64)
============ ================================ =============================
segmentation ``(C, H, W)``                    ``(H, W)``
change       ``(2, C, H, W)``, date first     ``(1, H, W)``, 0 or 1
============ ================================ =============================

These are TorchGeo's own shapes, so its datamodules and tasks treat real and synthetic samples alike.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from torchgeo_specdm.errors import SpecDMError, SpecMismatchError
from torchgeo_specdm.typed import construct

Task = Literal['segmentation', 'change']
TASKS: tuple[Task, ...] = ('segmentation', 'change')

# Fields that must agree before two datasets may be mixed; the rest describes, but does not change, the tensors.
_COMPARED = ('task', 'bands', 'unit', 'scale', 'classes', 'ignore_index', 'patch_size')
# Names become parts of file names, rows of tables and figures: none may lead to another folder or hide a part of a line
_NO_NAME = re.compile(r'[\x00-\x1f\x7f\\]|^\s*(/|[A-Za-z]:/)|(^|/)\.\.(/|$)')


@dataclass(frozen=True)
class DatasetSpec:
    """Description of a dataset of image-mask pairs; JSON round-trippable.

    An empty band name, class name or unit means *not declared* and is never compared.

    Attributes:
        name: Name of the dataset.
        task: ``segmentation`` or ``change``.
        bands: Names of the bands, in the order of the image's channels.
        classes: Class names; the index is the value in the mask.
        patch_size: Height and width of a sample [px].
        unit: What a pixel value is, in words.
        scale: The pixel value at which the physical quantity is 1 (10 000 for Sentinel-2 DN).
        value_range: Pixel values that fixed scaling maps to -1 and 1, in ``unit``.
        dtype: Data type in which the real rasters are stored. Integer types are rounded to.
        wavelengths: Centre wavelength of each band [nm].
        palette: One RGB colour (0-255) per class.
        ignore_index: Mask value of pixels that carry no label.
        gsd: Ground sampling distance [m].
        licence: Licence of the data, which a checkpoint trained on it inherits.
        attribution: The notice that must accompany the data.
    """

    name: str
    task: Task
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    patch_size: int
    unit: str = ''
    scale: float = 1.0
    value_range: tuple[float, float] = (0.0, 1.0)
    dtype: str = 'float32'
    wavelengths: tuple[float, ...] | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    ignore_index: int | None = None
    gsd: float | None = None
    licence: str = ''
    attribution: str = ''

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise SpecDMError(f'task is {self.task!r}; it must be one of {", ".join(TASKS)}')
        if self.task == 'change' and len(self.classes) != 2:
            raise SpecDMError(f'a change dataset has 2 classes (no change, change), not {len(self.classes)}')
        for field in ('wavelengths', 'bands'):
            value = getattr(self, field)
            if value is not None and len(value) != self.num_bands:
                raise SpecDMError(f'{field} has {len(value)} entries for {self.num_bands} bands')
        if self.palette is not None and len(self.palette) != self.num_classes:
            raise SpecDMError(f'palette has {len(self.palette)} colours for {self.num_classes} classes')
        # NaN is neither
        if not (self.patch_size >= 1 and self.scale > 0 and self.value_range[0] < self.value_range[1]):
            raise SpecDMError(
                f'patch_size {self.patch_size} px, scale {self.scale} and value_range {self.value_range} '
                'must be positive and increasing'
            )
        if bad := [name for name in (self.name, *self.bands, *self.classes) if _NO_NAME.search(name)]:
            raise SpecDMError(
                f'{bad[0][:60]!r} is no name of a dataset, band or class: it holds a path or control characters'
            )
        if not _is_number_type(self.dtype):
            raise SpecDMError(f'dtype is {self.dtype[:60]!r}, which is no NumPy type of numbers')

    @property
    def num_bands(self) -> int:
        """Number of bands of one date."""
        return len(self.bands)

    @property
    def num_classes(self) -> int:
        """Number of classes, the ignore index not counted."""
        return len(self.classes)

    @property
    def num_dates(self) -> int:
        """Number of dates in an image; 2 for change detection, else 1."""
        return 2 if self.task == 'change' else 1

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        shape = (self.num_bands, self.patch_size, self.patch_size)
        return (2, *shape) if self.task == 'change' else shape

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """Shape of one mask."""
        shape = (self.patch_size, self.patch_size)
        return (1, *shape) if self.task == 'change' else shape

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON types."""
        return dict(json.loads(json.dumps(dataclasses.asdict(self))))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'DatasetSpec':
        """The spec that :meth:`to_dict` described.

        Raises:
            SpecDMError: A field is unknown, missing or of the wrong type.
        """
        return construct(cls, values, 'the dataset spec')

    @classmethod
    def from_sample(cls, sample: Mapping[str, Any], **declared: Any) -> 'DatasetSpec':
        """A spec read from the shapes of one sample; everything that shapes cannot tell is ``declared``.

        Args:
            sample: A sample with ``image`` and ``mask`` as in the table above.
            declared: Any field of the spec. Units and classes are never guessed from the values.

        Raises:
            SpecDMError: The sample has no image and mask of a supported shape.
        """
        image, mask = sample.get('image'), sample.get('mask')
        if not isinstance(image, Tensor) or not isinstance(mask, Tensor) or image.ndim not in (3, 4):
            raise SpecDMError('a sample needs the tensors image (C, H, W) or (2, C, H, W) and mask (H, W) or (1, H, W)')
        if image.ndim == 4 and image.shape[0] != 2:
            raise SpecDMError(f'an image with dates must be (2, C, H, W), not {tuple(image.shape)}')
        if image.shape[-1] != image.shape[-2]:
            raise SpecDMError(f'patches must be square, not {tuple(image.shape[-2:])} px')
        task: Task = 'change' if image.ndim == 4 else 'segmentation'
        derived: dict[str, Any] = {
            'name': '',
            'task': task,
            'bands': ('',) * image.shape[-3],
            'classes': ('', '') if task == 'change' else (),
            'patch_size': int(image.shape[-1]),
        }
        return cls(**(derived | declared))

    def differences(self, other: 'DatasetSpec') -> list[str]:
        """One line for each field in which samples of the two datasets would not fit together."""
        lines = []
        for field in _COMPARED:
            mine, theirs = getattr(self, field), getattr(other, field)
            if not _agree(field, mine, theirs, declared=bool(self.unit and other.unit)):
                lines.append(f'{field}: {_words(mine)} against {_words(theirs)}')
        return lines

    def require_match(self, other: 'DatasetSpec', mine: str = 'the first', theirs: str = 'the second') -> None:
        """Refuse ``other`` unless its samples fit together with this dataset's.

        Raises:
            SpecMismatchError: Names both sides and each difference.
        """
        if lines := self.differences(other):
            raise SpecMismatchError(
                f'{mine} ({self.name or "no name"}) and {theirs} ({other.name or "no name"}) '
                f'cannot be mixed: {"; ".join(lines)}'
            )


def _is_number_type(name: str) -> bool:
    try:
        return np.dtype(name).kind in 'biuf'
    except (TypeError, ValueError, SyntaxError):
        # Each for another kind of nonsense
        return False


def _agree(field: str, mine: Any, theirs: Any, *, declared: bool) -> bool:
    if field in ('bands', 'classes'):
        if field == 'classes' and not (mine and theirs):
            return True
        return len(mine) == len(theirs) and all(a == b or not (a and b) for a, b in zip(mine, theirs, strict=True))
    if field in ('unit', 'scale', 'ignore_index'):
        return not declared or mine == theirs
    return bool(mine == theirs)


def _words(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return ' '.join(str(v) or '?' for v in value) if len(value) <= 20 else f'{len(value)} entries from {value[0]}'


def fold_dates(image: Tensor) -> Tensor:
    """Fold the dates of a batch into channels: ``(B, 2, C, H, W)`` to ``(B, 2C, H, W)``; one date is left alone."""
    return image.flatten(1, 2) if image.ndim == 5 else image


def unfold_dates(image: Tensor, dates: int) -> Tensor:
    """Inverse of :func:`fold_dates` for a batch of ``dates`` dates."""
    return image.reshape(len(image), dates, -1, *image.shape[2:]) if dates > 1 else image


def one_hot(mask: Tensor, num_classes: int, ignore_index: int | None = None) -> Tensor:
    """One-hot encode a batch of masks.

    Args:
        mask: ``(B, H, W)`` or ``(B, 1, H, W)``, int64.
        num_classes: K.
        ignore_index: Pixels of this value become all-zero vectors.

    Returns:
        ``(B, K, H, W)``, float32.

    Raises:
        SpecDMError: The mask holds a value that is neither a class nor the ignore index.
    """
    mask = mask.squeeze(1) if mask.ndim == 4 else mask
    classes = torch.arange(num_classes, device=mask.device).view(1, -1, 1, 1)
    encoded = mask.unsqueeze(1) == classes
    unlabelled = ~encoded.any(1)
    if ignore_index is not None:
        unlabelled &= mask != ignore_index
    if unlabelled.any():
        value = int(mask[unlabelled][0])
        raise SpecDMError(f'the mask holds {value}, which is none of the {num_classes} classes nor ignored')
    return encoded.float()


def class_index(logits: Tensor, task: Task) -> Tensor:
    """The most likely class of each pixel, in the task's mask shape.

    Args:
        logits: ``(B, K, H, W)``.
        task: Decides between ``(B, H, W)`` and ``(B, 1, H, W)``.

    Returns:
        int64 masks; every pixel has a label.
    """
    return logits.argmax(1, keepdim=task == 'change')


def float32_limits(dtype: str) -> tuple[float, float]:
    """The smallest and the largest float32 that a data type holds; infinite where it is no integer."""
    if np.dtype(dtype).kind not in 'iu':
        return -np.inf, np.inf
    about = np.iinfo(dtype)
    # The largest integer of 32 or 64 bits is rounded up in float32, which has 24 digits, and wraps on the way back
    spare = max(int(about.max).bit_length() - 24, 0)
    return float(about.min), float(int(about.max) >> spare << spare)


def find_spec(dataset: object) -> DatasetSpec | None:
    """The spec that a dataset carries, looked for through ``Subset`` and ``ConcatDataset`` wrappers; else None."""
    spec = getattr(dataset, 'spec', None)
    if isinstance(spec, DatasetSpec):
        return spec
    inner = getattr(dataset, 'dataset', None) or next(iter(getattr(dataset, 'datasets', ())), None)
    return None if inner is None else find_spec(inner)
