"""Each part of the default generator left out or exchanged, one at a time: small trainings of land cover, equally long.

    python examples/benchmarks/ablations.py --root data/oscd --out runs/ablations --seeds 0 1 2 \
        --only default 'one clock' LDM

Trains an autoencoder for each of its settings and seeds and a denoiser for each variation and seed, on patches of 32 px
of the train cities, and prints what N samples of each are worth. What is trained or sampled is kept in --out, so that
the same command goes on where it was interrupted and adds variations to those that are there. Distances are to train
patches of equal number; the row *held out* are real patches of the val cities.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from torchgeo_specdm.checkpoint import write_json
from torchgeo_specdm.comparison import count_pixels, mean_iou, sum_samples
from torchgeo_specdm.datamodules import LatentDataModule, OSCDLandCoverDataModule
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.diffusion import Clocks, LogitNormalClocks
from torchgeo_specdm.evaluation.fidelity import FeatureObserver
from torchgeo_specdm.evaluation.observation import draw, observe
from torchgeo_specdm.evaluation.real_data import RealData, open_real
from torchgeo_specdm.extractors import make_extractor
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.functional.distances import Products
from torchgeo_specdm.functional.landcover import land_cover
from torchgeo_specdm.functional.regions import boundary_length
from torchgeo_specdm.parts import load_autoencoder
from torchgeo_specdm.tasks import AutoencoderTask, LatentDiffusionTask
from torchgeo_specdm.tasks.generator import GeneratorTask

AUTOENCODER: dict[str, Any] = {
    'latent_channels': (20, 4),
    'width': (128, 64),
    'kl_weight': 0.05,
    'sad_weight': 1.0,
}
DENOISER: dict[str, Any] = {
    'widths': (64, 128, 192),
    'depth': 1,
    'prediction': 'v_prediction',
    'together': 0.6,
    'class_control': True,
    'orientations': True,
    'lr': 8e-4,
    'final_lr': 0.05,
}


class FlowClocks(LogitNormalClocks):
    """Noise levels as often as flow matching sees them: all places on its path alike.

    Up to a weight between 1 and 2, flow matching is the prediction of the velocity at these levels.
    """

    def places(
        self, count: int, generator: torch.Generator | None = None, device: torch.device | str = 'cpu'
    ) -> Tensor:
        return torch.rand(count, generator=generator, device=device)


@dataclass(frozen=True)
class Variation:
    """What differs from the default; ``samples`` are arguments of :class:`SpecDMSynthetic`."""

    autoencoder: Mapping[str, Any] = field(default_factory=dict)
    denoiser: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, Any] = field(default_factory=dict)
    clocks: type[Clocks] = Clocks


VARIATIONS: dict[str, Variation] = {
    'default': Variation(),
    'one clock': Variation(denoiser={'together': 1.0}),
    # The baseline has one stream and hence one clock: compare it with the line above
    'LDM': Variation({'kind': 'single_stream'}, {'together': 1.0}),
    'without SAD': Variation({'sad_weight': 0.0}),
    'weak KL': Variation({'kl_weight': 0.002}),
    'seeing mask': Variation({'mask_sees_image': True}),
    'seeing mask of 2': Variation({'mask_sees_image': True, 'latent_channels': (20, 2)}),
    'short mask': Variation({'mask_kl_weight': 1.0}),
    'short seeing mask': Variation({'mask_kl_weight': 1.0, 'mask_sees_image': True}),
    'shorter seeing mask': Variation({'mask_kl_weight': 4.0, 'mask_sees_image': True}),
    'shortest seeing mask': Variation({'mask_kl_weight': 10.0, 'mask_sees_image': True}),
    'absent': Variation(denoiser={'absent': 0.5}),
    **{
        f'agreement {scale}': Variation(denoiser={'absent': 0.5}, samples={'agreement': scale})
        for scale in (1.5, 2.0, 3.0)
    },
    'halved': Variation({'halved_weight': 0.5}),
    'noise': Variation(denoiser={'prediction': 'epsilon'}),
    'min-SNR': Variation(denoiser={'min_snr_gamma': 5.0}),
    'flow times': Variation(clocks=FlowClocks),
    'logit-normal times': Variation(denoiser={'logit_normal_times': True}),
    'no orientation': Variation(denoiser={'orientations': False}),
    'no shares': Variation(denoiser={'class_control': False}),
    'folded': Variation(denoiser={'fold': 2, 'widths': (128, 192)}),
    'no EMA': Variation(denoiser={'ema_decay': 0.0}),
    'short EMA': Variation(denoiser={'ema_decay': 0.99}),
    **{
        f'{solver} {steps}': Variation(samples={'solver': solver, 'steps': steps})
        for solver in ('sde-dpmsolver++', 'dpmsolver++', 'unipc')
        for steps in (20, 10, 4)
    },
    'ddpm 1000': Variation(samples={'solver': 'ddpm', 'steps': 1000}),
}


class VariedTask(LatentDiffusionTask):
    """Trains with other clocks where a variation has its own."""

    def __init__(self, kind: type[Clocks], **settings: Any) -> None:
        super().__init__(**settings)
        self.kind = kind

    def clocks(self) -> Clocks:
        usual = super().clocks()
        return usual if self.kind is Clocks else self.kind(usual.channels, usual.together, usual.absent)


class Grid:
    """Trains and measures the cells of the table, each once.

    Args:
        args: The command line's.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.latents: tuple[Path, LatentDataModule] | None = None
        data = self.data()
        data.setup('fit')
        self.spec = data.train_dataset.spec
        self.real: RealData = open_real(self.data(), self.spec)
        self.extractors = [FeatureObserver(make_extractor(name, self.spec)) for name in args.extractors]
        self.train = self._observe(self.real.train)

    def data(self) -> OSCDLandCoverDataModule:
        return OSCDLandCoverDataModule(self.args.root, patch_size=32, overlap=0.0, batch_size=self.args.batch_size)

    def rows(self, name: str) -> Iterator[tuple[str, dict[str, float]]]:
        """Figures of a variation, by seed."""
        variation = VARIATIONS[name]
        for seed in self.args.seeds:
            path = self.args.out / f'{name.replace(" ", "-")}-{seed}.json'
            if not path.is_file():
                autoencoder = self.autoencoder(variation, seed)
                figures = self.reconstruction(autoencoder)
                if set(variation.autoencoder) != {'sad_weight'}:
                    checkpoint = self.denoiser(variation, autoencoder, seed)
                    made = SpecDMSynthetic(checkpoint, self.args.n, seed=seed, **variation.samples, cache=None)
                    figures |= self.figures(made)
                write_json(path, figures)
            yield f'{name}, seed {seed}', json.loads(path.read_text())

    def autoencoder(self, variation: Variation, seed: int) -> Path:
        """The trained autoencoder's folder."""
        settings = AUTOENCODER | variation.autoencoder
        root = self.args.out / 'autoencoders' / f'{_label(variation.autoencoder)}-{seed}'
        if not (root / 'autoencoder').is_dir():
            task = AutoencoderTask(**settings)
            self._fit(task, task.wrap_datamodule(self.data(), root), root, self.args.autoencoder_steps, seed)
        return root / 'autoencoder'

    def denoiser(self, variation: Variation, autoencoder: Path, seed: int) -> Path:
        """The trained generator's folder."""
        label = _label(
            variation.denoiser | ({} if variation.clocks is Clocks else {'clocks': variation.clocks.__name__})
        )
        root = autoencoder.parent / f'denoiser-{label}'
        if not (root / 'checkpoint').is_dir():
            task = VariedTask(variation.clocks, autoencoder=str(autoencoder), **(DENOISER | variation.denoiser))
            # Encoding takes a third as long as a training: variations of one autoencoder share its latents
            if self.latents is None or self.latents[0] != autoencoder:
                self.latents = autoencoder, LatentDataModule(self.data(), load_autoencoder(autoencoder))
            self._fit(task, self.latents[1], root, self.args.denoiser_steps, seed)
        return root / 'checkpoint'

    def _fit(self, task: GeneratorTask, data: Any, root: Path, steps: int, seed: int) -> None:
        seed_everything(seed, verbose=False)
        trainer = Trainer(
            max_steps=steps,
            accelerator='cpu',
            precision=self.args.precision,
            default_root_dir=root,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(task, data)

    @torch.no_grad()
    def reconstruction(self, folder: Path) -> dict[str, float]:
        """What the autoencoder loses of val patches."""
        autoencoder, data = load_autoencoder(folder), self.real.held_out
        samples = [data[index] for index in draw(data, self.args.n)]
        image, mask = (torch.stack([sample[key] for sample in samples]) for key in ('image', 'mask'))
        made, logits = autoencoder.decode(autoencoder.encode(image, mask).mean)
        return {
            'RMSE': float((made - image).square().mean().sqrt()) / self.spec.scale,
            'SAD': float(spectral_angle(made, image, dim=1).mean()),
            'mask mIoU': self._mean_iou(logits.argmax(1), mask),
            'decoded': self._mean_iou(self._rule(made), logits.argmax(1)),
        }

    def figures(self, made: Any) -> dict[str, float]:
        """What samples are worth."""
        samples = [made[index] for index in draw(made, self.args.n)]
        image, mask = (torch.stack([sample[key] for sample in samples]) for key in ('image', 'mask'))
        found = {'aligned': self._mean_iou(self._rule(image), mask)}
        lengths = [boundary_length(masks, self.spec.num_classes).double().mean() for masks in (mask, self.train_masks)]
        found['boundaries'] = float(lengths[0] / lengths[1])
        rows = observe(samples, range(len(samples)), self.extractors)
        for observer in self.extractors:
            products = Products.of(self.train[observer.name]['date1'].float(), rows[observer.name]['date1'].float())
            label = observer.extractor.name
            found |= {f'FD {label}': products.frechet_distance(), f'KID {label}': products.kernel_distance()}
        return found

    def _observe(self, dataset: Any) -> Any:
        chosen = draw(dataset, self.args.n)
        self.train_masks = torch.stack([dataset[index]['mask'] for index in chosen])
        return observe(dataset, chosen, self.extractors, text='train')

    def _rule(self, image: Tensor) -> Tensor:
        return land_cover(image / self.spec.scale, self.spec.bands)

    def _mean_iou(self, found: Tensor, mask: Tensor) -> float:
        return float(mean_iou(sum_samples(count_pixels(found, mask, self.spec.num_classes))))


def _label(settings: Mapping[str, Any]) -> str:
    return '-'.join(f'{name}={value}'.replace(' ', '') for name, value in settings.items()) or 'default'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('data/oscd'))
    parser.add_argument('--out', type=Path, default=Path('runs/ablations'))
    parser.add_argument('--only', nargs='+', default=list(VARIATIONS), choices=list(VARIATIONS), metavar='NAME')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--n', type=int, default=500)
    parser.add_argument('--autoencoder-steps', type=int, default=1500)
    parser.add_argument('--denoiser-steps', type=int, default=1500)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--precision', default='32-true', help='bf16-mixed is faster where the processor has it')
    parser.add_argument('--extractors', nargs='+', default=['spectral', 'lite0'])
    args = parser.parse_args()

    grid, header = Grid(args), False
    rows = [('held out', grid.figures(grid.real.held_out))]
    columns = ['RMSE', 'SAD', 'mask mIoU', 'decoded', *rows[0][1]]
    for name in args.only:
        for label, figures in [*rows, *grid.rows(name)]:
            if not header:
                print(f'| | {" | ".join(columns)} |\n|---|{"---|" * len(columns)}')
                header = True
            cells = [f'{figures[column]:.4g}' if column in figures else '' for column in columns]
            print(f'| {label} | {" | ".join(cells)} |', flush=True)
        rows = []


if __name__ == '__main__':
    main()
