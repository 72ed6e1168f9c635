r"""What each setting of steps and agreement does to the pairs of a generator: a search for a setting.

    python examples/benchmarks/sampling.py examples/checkpoints/oscd-change --settings 20:1 20:1:train 10:1.75 \
        --data examples/conf/oscd-cpu.yaml --data.root data/oscd --out runs/sampling

A setting is STEPS:AGREEMENT or STEPS:AGREEMENT:CLASSES. The figures are those of quality.py, with fewer samples; what
is observed is kept in --out.
"""

import argparse
from pathlib import Path

from quality_table.pairs import pair_rows
from quality_table.table import Table, asked

from torchgeo_specdm.evaluation.cache import Cache
from torchgeo_specdm.evaluation.data import read_datamodule
from torchgeo_specdm.evaluation.real_data import open_real
from torchgeo_specdm.pipeline import SpecDMPipeline

# How the figures begin that a setting changes
FIGURES = (
    'exact alignment of',
    'mask edges',
    'mean region size',
    'mean boundary length',
    'roughness',
    'spectral angle, mean',
    'images, date: KID',
    'images, date1: KID',
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--data', type=Path, required=True, help='YAML of the real data; --data.x y overrides')
    parser.add_argument('--n', type=int, default=256)
    parser.add_argument('--settings', nargs='+', default=['20:1', '10:1.75'], metavar='STEPS:AGREEMENT[:CLASSES]')
    parser.add_argument('--out', type=Path, default=Path('runs/sampling'))
    args, overrides = parser.parse_known_args()

    real = open_real(read_datamodule(args.data, overrides), SpecDMPipeline.read_spec(args.checkpoint))
    table = Table(args.checkpoint, real, args.n, Cache(args.out))
    header = ['steps', 'agreement', 'classes', 'evaluations']
    for number, setting in enumerate(args.settings):
        words = setting.split(':')
        steps, agreement, classes = int(words[0]), float(words[1]), words[2] if len(words) > 2 else None
        made = table.generate(args.checkpoint, args.n, table.observers, **asked(steps, agreement, classes))
        rows = [row for row in pair_rows(made, table.real) if row.figure.startswith(FIGURES) and row.samples]
        if number == 0:
            print(f'| {" | ".join([*header, *(f"{row.figure} {row.extractor}".strip() for row in rows)])} |')
            print('|---' * (len(header) + len(rows)) + '|', flush=True)
        # Requests but those for train shares are guided, which takes each evaluation twice
        evaluations = steps * (1 if agreement == 1 else 3) * (2 if classes == 'balanced' else 1)
        cells = [str(steps), f'{agreement:g}', classes or '', str(evaluations), *(str(row.value) for row in rows)]
        print(f'| {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
    main()
