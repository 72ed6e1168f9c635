"""``specdm init``: a look at a dataset, and the configuration that trains a generator of it."""

import argparse
import shlex
import tempfile
from pathlib import Path
from typing import Any

from torchgeo_specdm.disk import write_whole
from torchgeo_specdm.errors import SpecDMError


def add_parser(commands: Any) -> None:
    """Add ``init`` to the subcommands of ``specdm``."""
    init = commands.add_parser(
        'init',
        help='look at a dataset and write the YAML that "specdm fit" trains a generator with',
        description='Writes a configuration with comments: what was measured, and what was guessed and must be '
        'checked. DATASET is a folder of rasters, one labelled scene (with --mask), or the class path of a '
        'NonGeoDataset or NonGeoDataModule, such as torchgeo.datasets.LoveDA (with --arg root=FOLDER).',
    )
    add = init.add_argument
    add('dataset', metavar='DATASET', help='folder, file or class path')
    add('--image', metavar='PATTERN', help='images in a folder, as image/*.tif (default: by the names of folders)')
    add('--mask', metavar='PATTERN', help='masks in a folder, or the mask file of a scene')
    add('--later-image', metavar='PATTERN', help='images of the second date, in a folder or of a scene')
    add(
        '--arg', action='append', default=[], metavar='NAME=VALUE', help='argument of the class (more than one: repeat)'
    )
    add('--out', type=Path, help='file to write (default: the name of the dataset, .yaml)')
    init.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Look at the dataset and write the file.

    Raises:
        SpecDMError: The file is there already or cannot be written, or the dataset cannot be read.
    """
    from torchgeo_specdm.evaluation.data import read_datamodule
    from torchgeo_specdm.starting.configuration import configuration, finish, render
    from torchgeo_specdm.starting.drafts import make_draft
    from torchgeo_specdm.starting.look import look

    draft = make_draft(args.dataset, args.image, args.mask, args.later_image, _arguments(args.arg))
    out = args.out or Path(f'{draft.name.replace(" ", "-").lower()}.yaml')
    if out.exists():
        raise SpecDMError(f'{out} exists already: choose another --out, or remove it')
    with tempfile.TemporaryDirectory() as folder:
        # Read back as "specdm fit" will read it, with a patch size and a range of values that are open yet
        path = Path(folder) / 'draft.yaml'
        path.write_text(render(configuration(draft), {}), encoding='utf-8')
        findings = look(read_datamodule(path))
    text = finish(draft, findings, _command(args))
    write_whole(out, lambda partial: partial.write_text(text, encoding='utf-8'))
    print('\n'.join(findings.lines()))
    print(f'specdm: wrote {out}; check what its comments call guessed, then: specdm fit --config {out}')


def _command(args: argparse.Namespace) -> str:
    given = {'image': args.image, 'mask': args.mask, 'later-image': args.later_image}
    options = [word for name, value in given.items() if value for word in (f'--{name}', value)]
    return shlex.join(
        ['specdm', 'init', args.dataset, *options, *(word for text in args.arg for word in ('--arg', text))]
    )


def _arguments(given: list[str]) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    arguments = {}
    for text in given:
        name, sign, value = text.partition('=')
        if not (name and sign):
            raise SpecDMError(f'--arg takes NAME=VALUE (root=data/loveda), not {text!r}')
        try:
            arguments[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SpecDMError(f'--arg {text!r}: {value!r} is no YAML value') from error
    return arguments
