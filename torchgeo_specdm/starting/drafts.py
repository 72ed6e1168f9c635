"""What can be said of a dataset before its patches are read, and in which words it was guessed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torchgeo.datasets import DatasetNotFoundError

from torchgeo_specdm.datasets.arrays import ArrayRaster
from torchgeo_specdm.datasets.described import Keys, dates_and_mask
from torchgeo_specdm.datasets.folder import matching_files
from torchgeo_specdm.datasets.pairs import open_rasters
from torchgeo_specdm.datasets.patches import patch_origins
from torchgeo_specdm.datasets.rasters import Raster
from torchgeo_specdm.datasets.sources import Source, load_class, open_source
from torchgeo_specdm.datasets.splitters import SPLITS, BySeed
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.sizes import AUTO, choose_overlap, choose_patch_size
from torchgeo_specdm.starting.patterns import guess_patterns

# Masks that are read for their values
_MASKS = 200
# Of a mask: more values than that are no classes
_MOST_VALUES = 255
_SPLITTERS = 'torchgeo_specdm.datasets.splitters'
# Where water vapour absorbs nearly all light [nm]
_ABSORPTION = ((1340, 1460), (1790, 1960))


@dataclass
class Draft:
    """A datamodule in the words of YAML.

    Attributes:
        name: Of the dataset.
        class_path: Of the datamodule.
        arguments: Of the datamodule, ``declared`` included.
        notes: Comment on an argument, by its name; ``declared.unit`` for one of these.
    """

    name: str
    class_path: str
    arguments: dict[str, Any]
    notes: dict[str, str] = field(default_factory=dict)


def make_draft(
    dataset: str,
    image: str | None = None,
    mask: str | None = None,
    later_image: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Draft:
    """A draft for a folder, a scene or a class.

    Args:
        dataset: Folder, file (``FILE#VARIABLE``) or class path.
        image: Pattern of the images in a folder.
        mask: Pattern of the masks in a folder, or the mask of a scene.
        later_image: Pattern of the images of the second date, or that of a scene.
        arguments: Of a class.

    Raises:
        SpecDMError: There is no such dataset, or it cannot be read.
    """
    if Path(dataset).is_dir():
        return _folder(Path(dataset), image, mask, later_image)
    if Path(dataset.partition('#')[0]).is_file():
        if mask is None:
            raise SpecDMError(f'{dataset} is a scene: name its mask with --mask FILE')
        return _scene(dataset, mask, later_image)
    if '/' in dataset or '.' not in dataset:
        raise SpecDMError(f'there is no folder or file {dataset}, and it is no class path (torchgeo.datasets.LoveDA)')
    return _class(dataset, dict(arguments or {}))


def _folder(root: Path, image: str | None, mask: str | None, later: str | None) -> Draft:
    draft = Draft(root.resolve().name, 'FolderDataModule', {'root': str(root)})
    patterns = {'image': image, 'mask': mask, 'later_image': later}
    if not (image and mask):
        guessed = guess_patterns(root)
        patterns = {key: patterns[key] or guessed.get(key) for key in patterns}
        draft.notes['image'] = 'guessed from the names of the folders'
    draft.arguments |= {key: pattern for key, pattern in patterns.items() if pattern}
    keys = [key for key in ('image', 'later_image', 'mask') if patterns[key]]
    try:
        files = matching_files(root, [str(patterns[key]) for key in keys])
    except SpecDMError as error:
        if 'image' not in draft.notes:
            raise
        raise SpecDMError(
            f'{error}. These patterns were guessed: name yours with --image and --mask, or one labelled scene by its '
            'files, "specdm init IMAGE --mask MASK"'
        ) from error
    by_split = all(name.split('/')[0] in SPLITS for name in files) and {n.split('/')[0] for n in files} >= {*SPLITS[:2]}
    _add_splitter(draft, f'{_SPLITTERS}.{"ByPattern" if by_split else "BySeed"}')
    if not by_split:
        BySeed().assign(list(files), root)
        draft.notes['splitter'] = (
            'guessed: files are dealt at random; where some show overlapping ground, use ByPattern or ByList'
        )
    every = list(files.values())
    some = every[:: max(1, len(every) // _MASKS)]
    opened = [open_rasters(paths[:-1], paths[-1]) for paths in some]
    add_overlap(draft, [target.shape for _, target in opened], len(every))
    values = _values(target for _, target in opened)
    _declare(draft, opened[0][0][0], len(keys) - 1, values, f'{len(some)} of {len(every)} masks')
    return draft


def _scene(image: str, mask: str, later: str | None) -> Draft:
    arguments = {'root': '.', 'image': image, 'mask': mask} | ({'later_image': later} if later else {})
    draft = Draft(Path(image.partition('#')[0]).stem, 'SceneDataModule', arguments)
    draft.arguments['splitter'] = {'class_path': 'torchgeo_specdm.datasets.areas.Blocks', 'init_args': {'seed': 0}}
    draft.notes['splitter'] = 'guessed: blocks of the scene are dealt at random, with a gap between the splits'
    images, target = open_rasters([image, *([later] if later else [])], mask)
    add_overlap(draft, [target.shape], 1)
    _declare(draft, images[0], len(images), _values([target]), 'the mask')
    return draft


def _class(path: str, arguments: dict[str, Any]) -> Draft:
    cls = load_class(path)
    draft = Draft(cls.__name__, 'TorchGeoDataModule', {'source': path})
    draft.arguments |= {'arguments': arguments} if arguments else {}
    source = open_source(path, arguments)
    train = source.part('train').dataset
    keys = _keys(train[0], path)
    found = ['train', *(split for split in SPLITS[1:] if split in source.splits and _serves(source, split, keys))]
    draft.arguments['splits'] = {split: split for split in found}
    if 'val' not in found:
        _add_splitter(draft, f'{_SPLITTERS}.BySeed', {split: 0.0 if split in found else 0.15 for split in SPLITS[1:]})
        draft.notes['splitter'] = (
            'guessed: the class serves no labelled val split, so train samples are dealt at random; where some show '
            'overlapping ground, name a splitter that knows of it'
        )
    elif 'test' not in found:
        draft.notes['splits'] = 'the class serves no labelled test split'
    for key, name in keys._asdict().items():
        if name not in (None, key):
            draft.arguments[key] = name
            draft.notes[key] = 'guessed from the entries of a sample'
    some = range(0, len(train), max(1, len(train) // _MASKS))
    pairs = [dates_and_mask(train[number], keys, f'sample {number} of {path}') for number in some]
    dates = pairs[0][0]
    add_overlap(draft, [dates[0].shape[1:]], len(train))
    values = _values(ArrayRaster.of(mask[None], path) for _, mask in pairs)
    _declare(draft, ArrayRaster.of(dates[0], path), len(dates), values, f'{len(pairs)} of {len(train)} train masks')
    draft.arguments['declared']['dtype'] = 'float32'
    draft.notes['declared.dtype'] = 'to be declared where the values are stored as integers (uint8, uint16 ...)'
    if classes := getattr(cls, 'classes', None):
        names = ', '.join(map(str, classes))
        draft.notes['declared.classes'] += f'. {draft.name}.classes, in an order of its own: {names}'
    return draft


def _keys(sample: Mapping[str, Any], path: str) -> Keys:
    for keys in (Keys(), Keys('image1', 'mask', 'image2'), Keys('image', 'label')):
        if all(key in sample for key in keys if key):
            return keys
    raise SpecDMError(
        f'samples of {path} have {", ".join(map(str, sample))}, among which image and mask are not known: write the '
        'YAML by hand, with image and mask of TorchGeoDataModule'
    )


def _serves(source: Source, split: str, keys: Keys) -> bool:
    """Whether the class serves labelled samples of a split: some have none, of some the masks are secret."""
    try:
        sample = source.part(split).dataset[0]
    except (SpecDMError, DatasetNotFoundError):
        return False
    return all(key in sample for key in keys if key)


def _add_splitter(draft: Draft, class_path: str, shares: Mapping[str, float] | None = None) -> None:
    draft.arguments['splitter'] = {'class_path': class_path, **({'init_args': dict(shares)} if shares else {})}


def add_overlap(draft: Draft, shapes: Sequence[tuple[int, int]], rasters: int) -> None:
    """Recommend an overlap where a raster is larger than a patch.

    Args:
        draft: Gets the argument and its note.
        shapes: Height and width of the rasters that were looked at [px].
        rasters: How many there are.

    Raises:
        SpecDMError: A raster is smaller than any patch.
    """
    size = choose_patch_size(AUTO, shapes if len(shapes) > 1 else list(shapes) * rasters)
    if all(shape == (size, size) for shape in shapes):
        return
    patches = sum(len(patch_origins(*shape, size)) for shape in shapes) * rasters // len(shapes)
    draft.arguments['overlap'] = choose_overlap(patches)
    draft.notes['overlap'] = (
        'recommended: share of a train patch that its neighbour covers too. 0.5 serves a pixel in about four patches, '
        'elsewhere in each; 0 in one. Patches that overlap show no other ground; more of them take longer to encode'
    )


def _values(masks: Any) -> Counter[float]:
    """Pixels of each value of the masks; nodata left out."""
    counts: Counter[float] = Counter()
    for mask in masks:
        pixels = mask.read([0], 0, 0, *mask.shape)
        values, numbers = np.unique(pixels.values[pixels.valid], return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        if len(counts) > _MOST_VALUES or any(value % 1 for value in counts):
            raise SpecDMError(f'{mask.path} holds {len(values)} values such as {values[-1]:g}, too many for classes')
    if not counts:
        raise SpecDMError(f'no mask that was looked at has a pixel with a label; {mask.path} is one: all is nodata')
    return counts


def _declare(draft: Draft, image: Raster, dates: int, values: Counter[float], looked: str) -> None:
    """Declare what the files do not say, in words that say so."""
    declared: dict[str, Any] = {'name': draft.name}
    codes = sorted(int(value) for value in values)
    ignore = [255] if len(codes) > 2 and codes[-1] == 255 else []
    codes = [code for code in codes if code not in ignore]
    declared['classes'] = _class_names(codes, dates)
    shares = ', '.join(f'{code}: {values[code] / sum(values.values()):.1%}' for code in codes[:20])
    note = f'names are guessed; shares of pixels in {looked}: {shares}'
    draft.notes['declared.classes'] = note + ('. If 0 means "no label", move it to ignore' if 0 in codes else '')
    if ignore:
        declared['ignore'] = ignore
        draft.notes['declared.ignore'] = 'guessed: 255 is what TorchGeo calls a pixel without a label'
    declared['value_range'] = [0.0, 1.0]
    if len(set(image.units)) > 1 or not image.units[0]:
        declared['unit'] = 'not declared'
        draft.notes['declared.unit'] = 'to be declared: the data does not say what a value is; scale: its value at 1'
    if any(not name and nm is None for name, nm in zip(image.names, image.wavelengths, strict=True)):
        declared['band_names'] = [name or f'band {number}' for number, name in enumerate(image.names, 1)]
        draft.notes['declared.band_names'] = 'numbered: the data does not name its bands'
    absorbed = [nm for nm in image.wavelengths if nm and any(low <= nm <= high for low, high in _ABSORPTION)]
    if absorbed:
        declared['exclude'] = []
        draft.notes['declared.exclude'] = (
            f'{len(absorbed)} bands lie where water vapour absorbs: [[1340, 1460], [1790, 1960]] leaves them out'
        )
    draft.arguments['declared'] = declared


def _class_names(codes: Sequence[int], dates: int) -> dict[int, str]:
    if dates == 1 and len(codes) == 1:
        raise SpecDMError(f'all masks looked at hold {codes[0]} alone: a generator of pairs needs two classes')
    if dates == 1:
        return {code: f'class {code}' for code in codes}
    if len(codes) > 2:
        raise SpecDMError(f'masks of two dates hold {", ".join(map(str, codes[:5]))}; change has two values')
    both = codes if len(codes) == 2 else sorted({codes[0], 0 if codes[0] else 1})
    return dict(zip(both, ('no change', 'change'), strict=True))
