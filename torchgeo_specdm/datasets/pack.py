"""A pack: the scenes of a dataset in a small folder, to be carried to a machine that trains.

It holds ``pack.json`` (the spec, the scenes, which of them are kept for validation) and ``part-N.safetensors``, each of
a limited size, in which every band and mask is compressed without loss (:mod:`torchgeo_specdm.datasets.planes`).
Reading one needs neither TorchGeo nor rasterio.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from torchgeo_specdm.checkpoint import read_json, write_json
from torchgeo_specdm.datasets.planes import decode_plane, encode_plane
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec
from torchgeo_specdm.typed import construct

FORMAT = 1
DESCRIPTION = 'pack.json'


class Scene(NamedTuple):
    """What is packed of one place.

    Attributes:
        name: Names it in its dataset.
        split: ``train`` or ``test``; which train scenes are kept for validation is said apart.
        image: ``(T, C, H, W)``, T dates, 8 or 16 bit without sign, raw units.
        mask: ``(H, W)``, values 0 to 255.
        natives: For each date and band the raster that it was resampled from, where that is known.
    """

    name: str
    split: str
    image: NDArray[Any]
    mask: NDArray[Any]
    natives: Sequence[Sequence[NDArray[Any]]] | None = None


@dataclass(frozen=True)
class PackedScene:
    """What ``pack.json`` says of a scene.

    Attributes:
        name: Names it in its dataset.
        split: ``train`` or ``test``.
        dates: T of its image.
        bands: C of its image.
        height: Of image and mask [px].
        width: Of image and mask [px].
        part: Number of the part that holds it.
    """

    name: str
    split: Literal['train', 'test']
    dates: int
    bands: int
    height: int
    width: int
    part: int


@dataclass(frozen=True)
class _Described:
    """All that ``pack.json`` says."""

    format: int
    spec: DatasetSpec
    val: Mapping[str, tuple[str, ...]]
    sha256: tuple[str, ...]
    scenes: tuple[PackedScene, ...]


def write_pack(
    folder: str | Path,
    scenes: Iterable[Scene],
    spec: DatasetSpec,
    val: Mapping[str, Sequence[str]] | None = None,
    limit: int = 40_000_000,
) -> None:
    """Write a pack, and read each band again to see that nothing is lost.

    Args:
        folder: Where to; made where it is missing.
        scenes: In any order; they fill the parts in theirs.
        spec: Describes the patches that will be cut; its patch size is of no account.
        val: Scenes of the split ``train`` that are kept for validation, for a name of the labels.
        limit: Size of a part [byte]; a scene that is larger gets a part of its own.

    Raises:
        SpecDMError: Values do not fit into a pack.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    listed: list[dict[str, Any]] = []
    parts: list[str] = []
    current: dict[str, NDArray[Any]] = {}
    for scene in scenes:
        stored = _encode(scene)
        if current and _size(current) + _size(stored) > limit:
            parts.append(_write_part(folder, len(parts), current))
            current = {}
        current |= stored
        shape = dict(zip(('dates', 'bands', 'height', 'width'), scene.image.shape, strict=True))
        listed.append({'name': scene.name, 'split': scene.split, **shape, 'part': len(parts)})
    parts.append(_write_part(folder, len(parts), current))
    values = {'format': FORMAT, 'spec': spec.to_dict(), 'val': {k: list(v) for k, v in (val or {}).items()}}
    write_json(folder / DESCRIPTION, {**values, 'sha256': parts, 'scenes': listed})


@dataclass(frozen=True)
class Pack:
    """A pack that is read.

    Attributes:
        folder: Where it lies.
        spec: Describes its scenes.
        val: Names of the train scenes that are kept for validation, for a name of the labels.
        scenes: What ``pack.json`` says of each scene, by name, sorted.
        sha256: Of each part.
    """

    folder: Path
    spec: DatasetSpec
    val: Mapping[str, tuple[str, ...]]
    scenes: Mapping[str, PackedScene]
    sha256: tuple[str, ...]

    @classmethod
    def open(cls, folder: str | Path) -> 'Pack':
        """Read the description.

        Raises:
            SpecDMError: There is no pack, one of another format, or one whose description contradicts itself.
        """
        folder = Path(folder)
        path = folder / DESCRIPTION
        if not path.is_file():
            raise SpecDMError(f'there is no pack in {folder}: write one with examples/benchmarks/pack.py')
        values = read_json(path)
        if values.get('format') != FORMAT:
            raise SpecDMError(f'{folder} has pack format {values.get("format")}, this release reads {FORMAT}')
        told = construct(_Described, values, str(path))
        _check(told, path)
        scenes = {scene.name: scene for scene in sorted(told.scenes, key=lambda scene: scene.name)}
        return cls(folder, told.spec, told.val, scenes, told.sha256)

    def names(self, split: str) -> list[str]:
        """Names of the scenes of a split, sorted."""
        return [name for name, scene in self.scenes.items() if scene.split == split]

    def read(self, names: Sequence[str]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Image ``(T, C, H, W)`` and mask ``(H, W)`` of each of these scenes.

        Raises:
            SpecDMError: A part is missing or damaged.
        """
        chosen = [self.scenes[name] for name in names]
        parts = {number: self._part(number) for number in sorted({scene.part for scene in chosen})}
        # Pillow decodes without Python's lock
        with ThreadPoolExecutor() as pool:
            return [self._decode(parts[scene.part], scene, pool) for scene in chosen]

    def _part(self, number: int) -> dict[str, NDArray[Any]]:
        path = self.folder / _part_name(number)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise SpecDMError(f'{path} is missing: copy all parts of the pack') from error
        if hashlib.sha256(data).hexdigest() != self.sha256[number]:
            raise SpecDMError(f'{path} is not the file that pack.json was written with: copy both again')
        try:
            return dict(load(data))
        except (SafetensorError, KeyError, ValueError) as error:
            # What is no type of NumPy, or no shape of so many values, is a KeyError or a ValueError
            raise SpecDMError(f'{path} is no part of a pack ({error}): copy the pack again') from error

    def _decode(
        self, stored: Mapping[str, NDArray[Any]], scene: PackedScene, pool: ThreadPoolExecutor
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        path = self.folder / _part_name(scene.part)
        # Before they are named: a description may say any number
        if scene.dates * scene.bands >= len(stored):
            raise SpecDMError(f'{path} holds less than {DESCRIPTION} says of {scene.name}: copy the pack again')
        shape = (scene.height, scene.width)

        def plane(key: str, resampled: bool = True) -> NDArray[Any]:
            prefix = f'{scene.name}/{key}/'
            found = {name: stored[prefix + name] for name in ('code', 'at', 'values') if prefix + name in stored}
            try:
                return decode_plane(found, shape, resampled)
            except SpecDMError as error:
                raise SpecDMError(f'{path}, {prefix[:-1]}: {error}; copy the pack again') from error

        # The one that always has all of its pixels says whether there are so many
        mask = plane('mask', resampled=False)
        planes = list(pool.map(plane, [f'{date}/{band}' for date in range(scene.dates) for band in range(scene.bands)]))
        return np.stack(planes).reshape(scene.dates, scene.bands, *shape), mask


def _check(told: _Described, path: Path) -> None:
    """Refuse a description whose scenes are not those of its spec, or lie in no part."""
    if len({scene.name for scene in told.scenes}) < len(told.scenes):
        raise SpecDMError(f'{path} lists two scenes of one name: copy the pack again')
    for scene in told.scenes:
        # Of a dataset of one date, each date of a place is a sample, and all places have as many
        dates = told.scenes[0].dates if told.spec.num_dates == 1 else told.spec.num_dates
        right = (scene.dates, scene.bands) == (dates, told.spec.num_bands) and scene.part in range(len(told.sha256))
        if not right or min(scene.dates, scene.bands, scene.height, scene.width) < 1:
            raise SpecDMError(
                f'{path}: {scene.name[:60]!r} with {scene.dates} dates, {scene.bands} bands and {scene.height} x '
                f'{scene.width} px in part {scene.part} is no scene of {told.spec.name}: copy the pack again'
            )


def _part_name(number: int) -> str:
    return f'part-{number}.safetensors'


def _size(arrays: Mapping[str, NDArray[Any]]) -> int:
    return sum(value.nbytes for value in arrays.values())


def _write_part(folder: Path, number: int, arrays: dict[str, NDArray[Any]]) -> str:
    path = folder / _part_name(number)
    save_file(arrays, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _encode(scene: Scene) -> dict[str, NDArray[Any]]:
    mask = scene.mask.astype(np.uint8)
    if not np.array_equal(mask, scene.mask):
        raise SpecDMError(f'the mask of {scene.name} holds values outside of 0 to 255, which a pack cannot hold')
    planes: dict[str, tuple[NDArray[Any], NDArray[Any] | None]] = {'mask': (mask, None)}
    for date, bands in enumerate(scene.image):
        for band, plane in enumerate(bands):
            planes[f'{date}/{band}'] = (plane, None if scene.natives is None else scene.natives[date][band])
    found: dict[str, NDArray[Any]] = {}
    for key, (plane, native) in planes.items():
        stored = encode_plane(plane, native)
        if not np.array_equal(decode_plane(stored, plane.shape), plane):
            raise SpecDMError(f'{scene.name} {key} does not come back as it was: this Pillow compresses with loss')
        found |= {f'{scene.name}/{key}/{name}': value for name, value in stored.items()}
    return found
