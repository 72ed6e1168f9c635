"""What an evaluation keeps of real data, so that the next one need not compute it again.

An entry's name is a hash of everything it depends on; entries are complete or absent, and safe to delete.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from torchgeo_specdm import __version__
from torchgeo_specdm.disk import write_whole
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.observation import Observer, observe

# Samples whose bytes tell one dataset from another of the same length
_PROBES = 16


def default_folder() -> Path:
    """Where the user's system keeps caches."""
    # Whoever names a folder does without the package
    from platformdirs import user_cache_path

    return user_cache_path('torchgeo_specdm') / 'evaluation'


def digest(values: Mapping[str, Any]) -> str:
    """A name for JSON values: equal values, equal names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]


def fingerprint(dataset: Any, indices: Sequence[int]) -> str:
    """A name for samples of a dataset: which they are, and the bytes of 16 of them."""
    found = hashlib.sha256(np.asarray(indices, np.int64).tobytes())
    for position in np.linspace(0, len(indices) - 1, min(_PROBES, len(indices))).astype(int):
        sample = dataset[indices[position]]
        for key in ('image', 'mask'):
            found.update(np.ascontiguousarray(sample[key].numpy()).tobytes())
    return found.hexdigest()[:24]


class Cache:
    """Tensors in a folder.

    Args:
        folder: Made at the first entry.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, depends: Mapping[str, Any]) -> Path:
        """Where the entry of that name lies which depends on these JSON values and this release."""
        return self.folder / f'{name}-{digest({"release": __version__, **depends})}'

    def load(self, name: str, depends: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """The tensors of an entry, if it is there.

        Raises:
            SpecDMError: The entry is damaged.
        """
        path = self.path(name, depends).with_suffix('.safetensors')
        if not path.is_file():
            return None
        try:
            return load_file(path)
        except SafetensorError as error:
            raise SpecDMError(f'{path} is damaged ({error}): delete it') from error

    def save(self, name: str, depends: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write an entry as a whole.

        Raises:
            SpecDMError: The disk is full, or the folder may not be written.
        """
        path = self.path(name, depends).with_suffix('.safetensors')
        # By Python, not by the library, whose errors do not tell a full disk from others
        content = save({key: value.contiguous() for key, value in tensors.items()})
        write_whole(path, lambda partial: partial.write_bytes(content))

    def observe(
        self, dataset: Any, indices: Sequence[int], observers: Sequence[Observer], *, batch_size: int, text: str
    ) -> dict[str, dict[str, Tensor]]:
        """As :func:`~torchgeo_specdm.evaluation.observation.observe`, but what is here is not computed again."""
        samples = fingerprint(dataset, indices)
        depends = {observer.name: {'samples': samples, 'observer': observer.settings} for observer in observers}
        names = {observer.name: observer.name.replace('/', '-') for observer in observers}
        found = {name: self.load(names[name], depends[name]) for name in depends}
        missing = [observer for observer in observers if found[observer.name] is None]
        made = observe(dataset, indices, missing, batch_size=batch_size, text=text)
        for name, rows in made.items():
            self.save(names[name], depends[name], rows)
        return {name: made.get(name) or found[name] or {} for name in depends}
