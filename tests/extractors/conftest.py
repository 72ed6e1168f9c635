"""Stand-ins of the weights that have to be downloaded: random ones, of the right names and shapes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3 as fidelity
from torchgeo import models

from tests.conftest import tiny_spec
from torchgeo_specdm.extractors import EXTRACTORS, Extractor, make_extractor


@pytest.fixture(scope='session')
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of ``torch.hub`` of random weights; DOFA has 1 block, not 12, and Inception sees 75 px, not 299."""
    folder = tmp_path_factory.mktemp('hub')
    (folder / 'checkpoints').mkdir()
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setenv('TORCH_HOME', str(folder))
        patch.setattr(torch.hub, '_hub_dir', str(folder))

        def small(*args: Any, **kwargs: Any) -> models.DOFA:
            return models.DOFA(*args, **kwargs, embed_dim=768, depth=1, num_heads=12)

        patch.setattr(fidelity.FeatureExtractorInceptionV3, 'INPUT_IMAGE_SIZE', 75)
        patch.setattr(models, 'dofa_base_patch16_224', small)
        weights = small().state_dict()
        missing = ('fc_norm', 'head')  # as in TorchGeo's file
        store(
            folder,
            models.DOFABase16_Weights.DOFA_MAE.url,
            {k: v for k, v in weights.items() if not k.startswith(missing)},
        )

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(fidelity, 'load_state_dict_from_url', lambda *_, **__: {})
            inner.setattr(fidelity.FeatureExtractorInceptionV3, 'load_state_dict', lambda *_: None)
            network = fidelity.FeatureExtractorInceptionV3('random', ['2048'])
        store(folder, fidelity.URL_INCEPTION_V3, network.state_dict())
        yield folder


def store(hub: Path, url: str, weights: Any) -> None:
    torch.save(weights, hub / 'checkpoints' / Path(url).name)


@pytest.fixture(scope='session', params=EXTRACTORS)
def extractor(request: pytest.FixtureRequest, hub: Path) -> Extractor:
    return make_extractor(request.param, tiny_spec('segmentation'))
