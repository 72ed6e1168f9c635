r"""The quality table of a generator: each figure with its 95 % interval, what real samples reach, and its bar.

    python examples/benchmarks/quality.py runs/oscd-landcover-cpu/checkpoint --n 5000 \
        --data examples/conf/oscd-landcover-cpu.yaml --data.root data/oscd --out quality.json

Prints a Markdown table and writes its rows to --out. What is observed of the samples is kept in a folder beside it, in
parts of 512 samples, so that an interrupted run goes on where it stopped. Rows that need other trainings name them:
``--baseline`` checkpoints that images must be better than, ``--seeds`` (once for each training seed) a checkpoint of
this generator and one of the baseline, ``--with-sad`` and ``--without-sad`` autoencoders of the same seeds.
``--degenerate`` adds which bars five generators fail that are no good (degenerate.py).

Intervals of distances are drawn from subsets without repetition, all others are bootstrapped over samples
(torchgeo_specdm/evaluation/resampling.py). Both sides of a distance have the N that is printed. The bars are those of
Sentinel-2 data; a bar is read at the value of its row unless it says otherwise.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from degenerate import PlantedCopies, degenerate_generators
from gpu_slices.plan import Job, read_stages
from gpu_slices.steps import packed
from quality_table.autoencoders import reconstruction_rows, sad_rows
from quality_table.conditions import dressed_rows, request_rows
from quality_table.figures import agreement
from quality_table.labelling import label_rows
from quality_table.pairs import pair_rows, roughness_row, step_rows
from quality_table.rows import HEADER, Report, Row
from quality_table.seeds import seed_rows
from quality_table.table import Side, Table, asked

from torchgeo_specdm.alignment.copies import COPY_RATIO
from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.datasets.conditions import DRAWN
from torchgeo_specdm.evaluation.cache import Cache
from torchgeo_specdm.evaluation.copying import share
from torchgeo_specdm.evaluation.real_data import open_real
from torchgeo_specdm.evaluation.resampling import resampled_interval
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec

# Of the presets that say how a pack is cut
_CONF = Path(__file__).parents[1] / 'conf'
# Steps of the solver that are compared with many of another
_FEWER = (10, 4, 1)
# Generators that are no good, and planted copies, show it with this many samples
_FEW = 500


def stage_one_rows(table: Table) -> list[Row]:
    """What the generator's autoencoder reaches, beside block means."""
    rows = reconstruction_rows(table.reconstructed(table.checkpoint / 'autoencoder'), table.block_means(), table.spec)
    roughness = roughness_row(table.real.test, table.real, 'decoded/spectra')
    rows.append(Row('decoded real pairs: roughness', roughness.value, roughness.real, roughness.samples))
    if table.rule:
        decoded = table.real.test['decoded/rule']
        value = resampled_interval(agreement(decoded, 1), 0, 1)
        rows.append(Row('exact alignment of decoded real pairs, mIoU', value, None, len(decoded['hit'])).at_least(0.8))
    return rows


def planted_row(table: Table) -> Row:
    """Whether copies are found that were put there."""
    planted = PlantedCopies(table.data.train, min(table.count, _FEW))
    found = table.see(planted, [table.copies], 'planted copies')[table.copies.name]['ratio'] < COPY_RATIO
    return Row('planted copies found', share(found), None, len(found)).at_least(0.95)


def degenerate_rows(table: Table, baselines: dict[str, Side]) -> dict[str, list[Row]]:
    """The rows of five generators that are no good."""
    makers = degenerate_generators(table.data.train, min(table.count, _FEW), table.spec)
    seen = {name: table.see(make(), table.observers, name) for name, make in makers.items()}
    return {name: pair_rows(side, table.real, baselines) for name, side in seen.items()}


def all_rows(table: Table, args: argparse.Namespace) -> Iterator[list[Row]]:
    """Groups of rows, in the order in which they are measured."""
    made = table.generate(table.checkpoint, args.n, table.observers)
    yield pair_rows(made, table.real, {str(path): images(table, path, args.n) for path in args.baseline})
    pairs = [(images(table, ours, args.n), images(table, other, args.n)) for ours, other in args.seeds]
    yield seed_rows(pairs, table.real)
    yield [*stage_one_rows(table), planted_row(table)]
    folders = zip(args.with_sad, args.without_sad, strict=True)
    yield sad_rows([(table.reconstructed(one), table.reconstructed(other)) for one, other in folders])
    yield request_rows(table, args.conditions_n, args.guidance)
    yield dressed_rows(table, args.given_n)
    yield label_rows(table, args.given_n, args.unet_steps)
    fewer = [args.steps, *(steps for steps in _FEWER if steps < args.steps)]
    if not args.reference_n:
        yield step_rows(dict.fromkeys(fewer), None, table.real, args.reference_steps)
        return
    by_steps: dict[int, Any] = {args.steps: first(made, args.reference_n)}
    by_steps |= {steps: images(table, table.checkpoint, args.reference_n, steps=steps) for steps in fewer[1:]}
    many = images(table, table.checkpoint, args.reference_n, steps=args.reference_steps, solver='ddpm')
    yield step_rows(by_steps, many, table.real, args.reference_steps)


def images(table: Table, checkpoint: Path, count: int, **sampling: Any) -> Side:
    """Features of a generator's images."""
    return table.generate(checkpoint, count, table.features, **sampling)


def first(side: Side, count: int) -> Side:
    """The rows of the first samples."""
    return {name: {key: values[:count] for key, values in rows.items()} for name, rows in side.items()}


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Options, and those of the real datamodule."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add, folders = parser.add_argument, {'type': Path, 'nargs': '+', 'action': 'extend', 'default': []}
    add('checkpoint', type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--data', type=Path, help='YAML of the real data; --data.x y overrides')
    source.add_argument('--pack', type=Path, help='the same patches from a pack of it (pack.py), without TorchGeo')
    add('--n', type=int, default=5000, help='samples to generate, and most real ones of a split')
    add('--steps', type=int, default=20, help='of the solver')
    add(
        '--agreement', type=float, default=1.0, help='of images and masks; another value takes three evaluations a step'
    )
    add('--classes', choices=tuple(DRAWN), help='which classes samples are asked for; by default none')
    add('--reference-steps', type=int, default=1000, help='of ancestral sampling')
    add('--reference-n', type=int, default=500, help='samples at each number of steps; 0: none')
    add('--conditions-n', type=int, default=50, help='samples of each class and requested share; 0: none')
    add('--guidance', type=float, help="towards the shares of --conditions-n; by default the pipeline's")
    add('--given-n', type=int, default=200, help='test masks to dress and test images to label; 0: none')
    add('--unet-steps', type=int, help='of the U-Net; by default it sees as many patches as the denoiser did')
    add('--baseline', metavar='CHECKPOINT', help='that images must be better than', **folders)
    add('--seeds', type=Path, nargs=2, metavar=('OURS', 'BASELINE'), action='append', default=[])
    add('--with-sad', metavar='AUTOENCODER', help='one for each training seed', **folders)
    add('--without-sad', metavar='AUTOENCODER', help='as many', **folders)
    add('--degenerate', action='store_true', help='which bars five generators fail that are no good')
    add('--device', help='by default a GPU where there is one')
    add('--out', type=Path, default=Path('quality.json'))
    args, overrides = parser.parse_known_args(arguments)
    if args.pack and overrides:
        parser.error(f'{overrides[0]} is no option: a pack is cut as the preset says, which --data.x y cannot change')
    if len(args.with_sad) != len(args.without_sad):
        parser.error('--with-sad and --without-sad name one autoencoder each for every seed')
    return args, overrides


def datamodule(args: argparse.Namespace, overrides: Sequence[str], spec: DatasetSpec) -> Any:
    """The real data, as its YAML or as the preset of a packed dataset has it."""
    if args.pack:
        name = 'oscd' if spec.task == 'change' else 'oscd-landcover'
        stages = read_stages(Job(name, 'samples', name), _CONF, args.pack, Path())
        return packed(stages[0].data, 'fit', 'test')
    # Of TorchGeo
    from torchgeo_specdm.evaluation.data import read_datamodule

    return read_datamodule(args.data, overrides)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    args, overrides = parse(arguments)
    spec = SpecDMPipeline.read_spec(args.checkpoint)
    real = open_real(datamodule(args, overrides, spec), spec)
    sampling = asked(args.steps, args.agreement, args.classes)
    table = Table(args.checkpoint, real, args.n, Cache(args.out.with_suffix('.parts')), args.device, sampling)
    command = shlex.join(['python', 'examples/benchmarks/quality.py', *(arguments or sys.argv[1:])])
    report = Report(args.out, {'checkpoint': folder_hash(args.checkpoint), 'command': command})
    words = ', '.join(f'{name} {value}' for name, value in sampling.items())
    print(f'{args.checkpoint}, {args.n} samples, {words}\n\n{HEADER}')
    for rows in all_rows(table, args):
        report.add(rows)
    if args.degenerate:
        baselines = {str(path): images(table, path, args.n) for path in args.baseline}
        report.add_degenerate(degenerate_rows(table, baselines))


if __name__ == '__main__':
    main()
