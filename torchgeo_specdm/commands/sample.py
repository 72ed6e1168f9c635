"""``specdm sample``: samples of a generator as files."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchgeo_specdm.errors import SpecDMError

# The keys of torchgeo_specdm.exporting.FORMATS, which are not imported to print a help
FORMATS = ('geotiff', 'segmunich', 'oscd', 'npz', 'webdataset')
# The keys of torchgeo_specdm.datasets.conditions.DRAWN, for the same reason
DRAWN = ('balanced', 'train')


def add_parser(commands: Any) -> None:
    """Add ``sample`` to the subcommands of ``specdm``."""
    parser = commands.add_parser(
        'sample',
        help='write labelled images of a trained generator as GeoTIFF or in another format',
        description='Generate labelled images. Writes OUT/image, OUT/mask and OUT/specdm.json, or the files of another '
        'format; the same command resumes an interrupted run, a larger N continues it.',
    )
    # Not Path, which would drop a slash of hf://
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='folder that "specdm fit" wrote, name that "specdm checkpoints" lists, or hf://owner/name',
    )
    parser.add_argument('--n', type=int, required=True, help='number of images')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    _add_generator(parser.add_argument_group('how they are generated'))
    _add_choice(parser.add_argument_group('which ones'))
    _add_given(parser.add_argument_group('parts of real samples'))
    _add_files(parser.add_argument_group('files'))
    _add_devices(
        parser.add_argument_group(
            'several devices',
            'They share the work, and the files are those of one. On several machines run the same command on each, '
            'with NODE_RANK, MASTER_ADDR and MASTER_PORT, by torchrun or by SLURM; OUT is one folder that all see.',
        )
    )
    parser.set_defaults(run=run)


def _add_generator(group: Any) -> None:
    add = group.add_argument
    add('--seed', type=int, default=0, help='names one endless dataset of the checkpoint (default: 0)')
    add('--steps', type=int, default=20, help='steps of the solver (default: 20)')
    add('--solver', help="solver (default: the checkpoint's)")
    add('--batch-size', type=int, help='images generated at once (default: 8 on a CPU, more on a GPU)')
    add('--device', help='cpu, cuda or cuda:N (default: a GPU where there is one)')
    add(
        '--precision',
        default='32-true',
        metavar='32-true|bf16-mixed',
        help='of the denoiser; bf16-mixed is meant for a GPU (default: 32-true)',
    )
    add('--compile', action='store_true', help='compile the denoiser first, which pays for many images')


def _add_choice(group: Any) -> None:
    add = group.add_argument
    add(
        '--keep',
        metavar='aligned|FOLDER',
        help="keep what the checkpoint's filter, or that in a folder, accepts (default: keep all)",
    )
    add(
        '--classes',
        nargs='+',
        metavar='balanced|train|NAME=SHARE',
        help='ask for each class equally often, for classes as frequent as in train samples, or for shares of pixels '
        'by class name (water=0.4)',
    )
    add('--guidance', type=float, help='how strongly to prefer pairs of such classes (default: 2.5; 1 for train)')
    add(
        '--agreement',
        type=float,
        default=1.0,
        help='how strongly to pull images and masks towards those that go together, at three times the cost of a '
        'step (1.75 with 10 steps, say; default: 1, not at all)',
    )


def _add_given(group: Any) -> None:
    add = group.add_argument
    add(
        '--given',
        nargs='+',
        metavar='STREAM',
        help='keep these streams of real samples and generate the rest: mask, image, image1 or image2',
    )
    add('--data', type=Path, metavar='CONFIG', help='YAML whose "data:" has the real samples (default: by name)')
    add('--root', type=Path, help='folder of the real samples, where no CONFIG is given')
    add('--split', choices=('train', 'val', 'test'), default='train', help='of the real samples (default: %(default)s)')


def _add_files(group: Any) -> None:
    add = group.add_argument
    add(
        '--format',
        default='geotiff',
        metavar='|'.join(FORMATS),
        help='layout and type of the files (default: geotiff); segmunich and oscd fit checkpoints of these datasets',
    )
    add('--shard-size', type=int, metavar='N', help='images in a file of webdataset (default: 100)')
    add('--crs', help='coordinate system such as EPSG:32632, with --transform (default: fictitious)')
    add(
        '--transform',
        nargs=6,
        type=float,
        metavar=tuple('ABCDEF'),
        help='affine transform of image 0 (10 0 LEFT 0 -10 TOP: pixels of 10 units); the others lie beside it',
    )


def _add_devices(group: Any) -> None:
    add = group.add_argument
    add('--devices', type=int, metavar='D', help='GPUs, or processes on a CPU, of each machine (default: this process)')
    add('--num-nodes', type=int, metavar='M', help='machines (default: 1)')


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        SpecDMError: An argument is wrong.
    """
    if args.n < 1:
        raise SpecDMError(f'--n is {args.n}; ask for at least 1 image')
    if args.given is None and (args.data or args.root):
        raise SpecDMError('--data and --root name the real samples of --given, which is missing')
    if args.devices is None and args.num_nodes is not None:
        raise SpecDMError('--num-nodes needs --devices, the number of GPUs of each machine')
    from torchgeo_specdm.export import export
    from torchgeo_specdm.ranks import started_together

    if args.devices is None and started_together() > 1:
        raise SpecDMError(
            f'{started_together()} processes were started at once, each of which would write all images: add '
            '--devices, the number of processes of each machine (and --num-nodes), or start one'
        )
    given = {'given': _given(args), 'given_streams': args.given} if args.given else {}
    try:
        export(
            args.checkpoint,
            args.out,
            args.n,
            seed=args.seed,
            steps=args.steps,
            solver=args.solver,
            batch_size=args.batch_size,
            device=args.device,
            keep=args.keep,
            classes=_classes(args.classes),
            guidance=args.guidance,
            agreement=args.agreement,
            precision=args.precision,
            compile=args.compile,
            format=args.format,
            crs=args.crs,
            transform=args.transform,
            shard_size=args.shard_size,
            devices=args.devices,
            num_nodes=args.num_nodes or 1,
            **given,
        )
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt('the same command resumes') from interrupt


def _given(args: argparse.Namespace) -> Any:
    """The real samples that ``--given`` takes streams from."""
    from torchgeo_specdm.datamodules import GeneratorDataModule
    from torchgeo_specdm.evaluation.data import find_datamodule, read_datamodule
    from torchgeo_specdm.pipeline import SpecDMPipeline

    spec = SpecDMPipeline.read_spec(args.checkpoint)
    real = read_datamodule(args.data) if args.data else find_datamodule(spec, args.root)
    raw = GeneratorDataModule(real, dihedral=False)
    raw.prepare_data()
    real.setup('test' if args.split == 'test' else 'fit')
    return raw.split(args.split)


def _classes(values: Sequence[str] | None) -> dict[str, float] | str | None:
    """What ``--classes`` asks for."""
    if not values:
        return None
    if len(values) == 1 and values[0] in DRAWN:
        return values[0]
    shares = {}
    for value in values:
        name, _, share = value.rpartition('=')
        try:
            shares[name] = float(share)
        except ValueError as error:
            raise SpecDMError(f'--classes takes {", ".join(DRAWN)} or NAME=SHARE (water=0.4), not {value!r}') from error
    return shares
