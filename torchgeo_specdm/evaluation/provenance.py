"""Where synthetic samples come from: their generator, the machine and the versions that made them."""

import os
import platform
from importlib.metadata import version

import torch

from torchgeo_specdm import __version__
from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.device import resolve_device
from torchgeo_specdm.description import read_description
from torchgeo_specdm.hub import folder_name

_LIBRARIES = ('torchgeo', 'torch', 'diffusers', 'lightning', 'kornia')


def provenance(synthetic: SpecDMSynthetic) -> dict[str, str]:
    """Generator, machine and versions."""
    description = read_description(synthetic.checkpoint)
    device = resolve_device(synthetic.device)
    versions = {'torchgeo-specdm': __version__, 'Python': platform.python_version()}
    versions |= {name: version(name) for name in _LIBRARIES}
    spec = synthetic.spec
    rows = {
        'generator': f'{folder_name(synthetic.checkpoint)}, SHA-256 {folder_hash(synthetic.checkpoint)[:16]}...',
        'generator trained by': str(description.training.get('command', '')),
        'sampling': f'{synthetic.solver}, {synthetic.steps} steps, seed {synthetic.seed}',
        'device': f'one of {os.cpu_count()} CPU cores' if device.type == 'cpu' else torch.cuda.get_device_name(device),
        'versions': ', '.join(f'{name} {number}' for name, number in versions.items()),
        'data': f'{spec.attribution} ({spec.licence})' if spec.licence else spec.attribution,
    }
    return {name: text for name, text in rows.items() if text}
