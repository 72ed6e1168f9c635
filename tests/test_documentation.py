"""The Python of the pages runs as it stands, block by block, and their commands name options and files that exist.

Where a page needs a generator or a model, a tiny one lies where the page says. Not run are a fragment of a table
(experiments.md) and a measurement of minutes (evaluation.md), which tests/experiments and tests/evaluation run; the
tutorial has a test of its own.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader
from torchgeo.datamodules import NonGeoDataModule

from tests.conftest import tiny_pipeline, tiny_spec
from tests.data.oscd.data import write_oscd
from tests.data.torchgeo.data import write_landslides, write_loveda
from tests.fake import FakeDataModule, FakePairs
from tests.rasters import scene, write_folder, write_tif
from tests.test_examples import shrunk
from torchgeo_specdm import cli
from torchgeo_specdm.comparison import f1
from torchgeo_specdm.datamodules import MixedDataModule
from torchgeo_specdm.datasets import OSCD, MixedDataset, SpecDMSynthetic
from torchgeo_specdm.downstream import DownstreamChangeTask
from torchgeo_specdm.evaluation.data import read_datamodule
from torchgeo_specdm.export import export
from torchgeo_specdm.models import JointDenoiser, TwoStreamAutoencoder
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / 'README.md', ROOT / 'examples' / 'README.md', *(ROOT / 'docs').glob('*.md')])
QUIET = {'accelerator': 'cpu', 'logger': False, 'enable_progress_bar': False, 'enable_model_summary': False}


def blocks(page: str, language: str = 'python') -> list[str]:
    return fenced((ROOT / page).read_text(encoding='utf-8'), language)


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


def run(page: str, **names: Any) -> dict[str, Any]:
    """Run the blocks of a page one after the other; ``names`` are what its text takes for granted."""
    for number, block in enumerate(blocks(page), 1):
        # A dataset of any length is read alike
        short = re.sub(r'length=\d+', 'length=4', block)
        exec(compile(short, f'{page}, block {number}', 'exec'), names)
    return names


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    plt.close('all')


@pytest.fixture
def oscd(tmp_path: Path) -> Path:
    """OSCD and its generator, which can be asked for all that the pages say, where they look for them."""
    write_oscd(tmp_path / 'data' / 'oscd', test_cities=('dubai',), height=128, width=144)
    spec = OSCD(tmp_path / 'data' / 'oscd', patch_size=64).spec
    torch.manual_seed(0)
    autoencoder = TwoStreamAutoencoder(
        'change', spec.num_bands, 2, latent_channels=(2, 1), width=(16, 16), depth=1, separate_dates=True
    )
    autoencoder.set_scaling(torch.tensor(1500.0), torch.tensor(500.0))
    denoiser = JointDenoiser(5, spec.patch_size // 4, widths=(32, 32), depth=1, clocks=3, num_classes=2)
    shares = torch.linspace(0, 1, 5).repeat(2, 1)
    known: dict[str, Any] = {'shares': shares, 'share_rows': torch.eye(2)}
    pipeline = SpecDMPipeline(spec, autoencoder, denoiser, torch.zeros(5), torch.ones(5), **known)
    pipeline.save_pretrained(tmp_path / 'runs' / 'oscd' / 'checkpoint')
    return tmp_path / 'data' / 'oscd'


def generator(spec: DatasetSpec, folder: str) -> None:
    tiny_pipeline(spec).save_pretrained(Path(folder))


def test_readme(oscd: Path) -> None:
    names = run('README.md')
    assert len(names['train']) == 6 * len(names['real'])


def test_change_detection(oscd: Path) -> None:
    names = run('docs/change-detection.md')
    assert len(names['train']) == 6 * len(names['real'])
    assert names['real'][0]['image'].shape == (2, 10, 64, 64)
    assert names['checkpoint'] == 'runs/oscd/checkpoint'


def test_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page from its first line to its last: the class, the training, the mix."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'fields.py').write_text(blocks('docs/own-data.md')[0])
    (config,) = (block for block in blocks('docs/own-data.md', 'yaml') if block.startswith('# fields.yaml'))
    (tmp_path / 'fields.yaml').write_text(config)
    short = ['--trainer.max_steps', '2', '--trainer.accelerator', 'cpu', '--trainer.enable_progress_bar', 'false']
    assert cli.main(['fit', '--config', 'fields.yaml', *short]) == 0
    names = run('docs/own-data.md')
    assert len(names['train']) == 4 * len(names['Fields']())
    assert names['train'][0]['image'].shape == (4, 32, 32)
    names['data'].setup('fit')
    assert len(names['data'].train_dataset) == len(names['train'])


@pytest.mark.slow
@pytest.mark.usefixtures('no_network')
def test_a_folder_becomes_a_generator_and_a_mix(tmp_path: Path) -> None:
    """The lead of own-data.md: its commands in their order, in fewer steps, and its mixed.yaml as it is printed."""
    pytest.importorskip('h5py', reason='Landslide4Sense is HDF5')
    write_folder(Path('data/fields'), [(32, 32)] * 10)
    write_loveda(Path('data/loveda'), {'Train': 2, 'Val': 1})
    write_landslides(Path('data/landslide4sense/TrainData'))
    image, mask = scene(96, 96)
    write_tif(Path('scene.img'), image, driver='ENVI', unit='counts')
    write_tif(Path('classes.tif'), mask[None])
    (printed,) = (block for block in blocks('docs/own-data.md', 'yaml') if block.startswith('# mixed.yaml'))
    Path('mixed.yaml').write_text(printed)
    few = {
        'fit': '--trainer.max_steps 2 --trainer.accelerator cpu --trainer.logger false --trainer.limit_val_batches 1',
        'sample': '--n 2 --steps 2',
        'evaluate': '--n 4 --steps 2 --real 8 --extractors spectral --judge-steps 2 --no-usefulness --cache cache',
    }
    lead = (ROOT / 'docs' / 'own-data.md').read_text(encoding='utf-8').partition('## Shapes')[0]
    path = [shlex.split(line, comments=True) for line in shell_lines(lead)]
    steps = 'init init init fit init fit sample install evaluate fit fit'
    assert [words[1] for words in path] == steps.split()
    for words in path:
        if words[0] == 'specdm' and 'examples/conf/auto.yaml' not in words:
            quick = few.get(words[1], '').split() + ['--stage', '1'] * ('runs/try' in words)
            quick += ['--data.steps', '2'] * ('mixed.yaml' in words)
            assert cli.main([*words[1:], *quick]) == 0, words
        if words[1:] == ['init', 'data/fields']:
            config = yaml.safe_load(Path('fields.yaml').read_text())
            # What is printed is what was written
            assert yaml.safe_load(printed)['data']['init_args']['real']['init_args'] == config['data']['init_args']
            Path('fields.yaml').write_text(yaml.safe_dump(shrunk(config)))
    assert {path.name for path in Path('runs').iterdir()} == {'fields', 'try', 'mixed-fields'}
    assert len(list(Path('synthetic/image').iterdir())) == 2
    assert Path('report/report.html').is_file()


DATA = [
    (page, number)
    for page in PAGES
    for number, block in enumerate(blocks(str(page.relative_to(ROOT)), 'yaml'))
    if re.search(r'^data:', block, re.MULTILINE)
]


@pytest.mark.parametrize(('page', 'number'), DATA, ids=lambda value: getattr(value, 'stem', value))
def test_data_of_yaml_names_what_there_is(page: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ``data:`` of a page is read as ``specdm fit`` reads it: its classes, their arguments and the types."""
    Path('fields.py').write_text(blocks('docs/own-data.md')[0])
    monkeypatch.syspath_prepend(Path.cwd())
    text = blocks(str(page.relative_to(ROOT)), 'yaml')[number]
    # What a comment offers holds as well
    offered = re.sub(r'^( +)# (\w+: (?!\.\.\.).*)$', r'\1\2', text, flags=re.MULTILINE)
    for written in {text, offered}:
        Path('config.yaml').write_text(written)
        assert isinstance(read_datamodule(Path('config.yaml')), NonGeoDataModule)


def test_cache() -> None:
    generator(tiny_spec('segmentation'), 'runs/oscd/checkpoint')
    assert len(run('docs/cache.md', SpecDMSynthetic=SpecDMSynthetic)['synthetic']) == 4


def test_streaming() -> None:
    spec = tiny_spec('segmentation')
    generator(spec, 'runs/oscd/checkpoint')
    taken = {'MixedDataModule': MixedDataModule, 'MixedDataset': MixedDataset, 'DataLoader': DataLoader}
    taken |= {'real': FakeDataModule(), 'synthetic': SpecDMSynthetic('runs/oscd/checkpoint', steps=2)}
    modules, loader = blocks('docs/streaming.md')
    exec(modules, dict(taken))
    taken['real'] = FakePairs(spec)
    exec(loader.replace('num_workers=4', 'num_workers=0'), taken)
    read = [int(batch['synthetic'].sum()) for batch in taken['loader']]
    assert sum(read) == 5 * len(taken['real'])


def test_files(oscd: Path) -> None:
    export('runs/oscd/checkpoint', Path('synthetic'), 2, steps=2, format='oscd')
    (block,) = blocks('docs/export.md')
    *imports, last = block.strip().splitlines()
    names: dict[str, Any] = {}
    exec('\n'.join([*imports, f'found = {last}']), names)
    assert len(names['found']) == 2
    assert names['found'][0]['image'].shape == (2, 10, 64, 64)


def test_checkpoints() -> None:
    (block,) = blocks('docs/checkpoints.md')
    *imports, last = block.strip().splitlines()
    names: dict[str, Any] = {}
    exec('\n'.join([*imports, f'sample = {last}']), names)
    assert names['sample']['image'].shape == (200, 32, 32)


def test_downstream(oscd: Path) -> None:
    task = DownstreamChangeTask(model='fcsiamdiff', backbone='resnet18', in_channels=10, task='binary')
    trainer: Any = Trainer(**QUIET)
    trainer.strategy.connect(task)
    trainer.save_checkpoint('runs/changeformer/last.ckpt')
    names = run('docs/downstream.md', image=torch.rand(1, 2, 10, 64, 64))
    assert names['logits'].shape == (1, 2, 64, 64)
    # One test city of two classes
    assert f1(names['counts']).shape == (1, 2)


def shell_lines(page: str) -> list[str]:
    """The lines of the shell blocks in the text of a page, those that go on in the next line joined."""
    text = '\n'.join(fenced(page, 'bash')).replace('\\\n', ' ')
    return [line.partition('&& ')[2] or line for line in text.splitlines() if line.strip() and not line.startswith('#')]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    """Options that a subcommand knows, and files of the repository that are there."""
    parser = cli._parser()
    for line in shell_lines(page.read_text(encoding='utf-8')):
        words = shlex.split(line, comments=True)
        for word in words:
            if word.startswith('examples/') and '*' not in word:
                assert (ROOT / word).exists(), f'{line}: {word} is missing'
        if words[0] == 'specdm' and not {'fit', 'validate', 'test'} & {words[1]}:
            _, rest = parser.parse_known_args(words[1:])
            # 'evaluate' takes settings of its data, which parsers of classes read
            assert all(option.startswith('--data.') for option in rest[::2]), f'{line}: {rest}'
            assert not rest or words[1] == 'evaluate'
