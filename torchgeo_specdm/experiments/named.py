"""The experiments by name. To add one, add an entry to :data:`EXPERIMENTS`.

Values of the paper are those of SpecDM (arXiv:2502.17056), Tables 1, 2, 4, 5 and 6. Those of Table 3 were not at hand;
of its rows, the ones that Table 5 repeats are given.
"""

from collections.abc import Mapping

from torchgeo_specdm.experiments.bars import Gained, HigherInEverySeed, Level
from torchgeo_specdm.experiments.plan import ALL, Arm, DownstreamExperiment, Experiment, GeneratorExperiment, Paper

MODELS = {
    'change': ('changeformer:v3', 'siamcrnn:resnet101'),
    'segmentation': ('segformer:mit_b5', 'pfsegnet:resnet50'),
}
"""The paper's models by task."""
STEPS = 5000
"""Optimiser steps of a cell; fewer are a reduced form."""
REAL, LDM, MIX = 'real', 'real + LDM', 'real + synthetic'
_FIDS = ('FID image', 'FID image 2', 'FID mask', 'mSAD [rad]')
_NONE = float('nan')

# Mean IoU and mean F1 of SegFormer-B5 and ChangeFormer V3, 2 000 and 100 real pairs; rows 1x, 3x, 5x of Table 6 are
# not labelled in the text but for the last
_BASELINE = {'SegMunich': (0.3574, 0.4852), 'OSCD': (0.5460, 0.6274)}
_OURS = {'SegMunich': (0.3772, 0.5092), 'OSCD': (0.5733, 0.6617)}
_LDM = {'SegMunich': (0.3499, 0.4803), 'OSCD': (0.5341, 0.5975)}
_RATIOS = {
    'real + 1x': {'SegMunich': (0.3664, 0.4942), 'OSCD': (0.5666, 0.6546)},
    'real + 3x': {'SegMunich': (0.3757, 0.5086), 'OSCD': (0.5694, 0.6561)},
    'real + 5x': _OURS,
}


# What must hold on OSCD. The control is real pairs alone, for as many steps and in as many orientations as the others
_CONTROL = Level('F1 of change of real pairs alone, the control', '≈ 0.28', 'F1 of change', REAL, 0.5)
_GAINS = (
    Gained('mIoU of real + synthetic over the control', '+0.027', 'mIoU', MIX, REAL, 0.02),
    Gained('mF1 of real + synthetic over the control', '+0.034', 'mF1', MIX, REAL, 0.03),
)
_OVER_LDM = HigherInEverySeed('mIoU of real + synthetic over real + LDM', '+0.039', 'mIoU', MIX, LDM)

_SIZES = {'10': 10, '25': 25, '50': 50, '100': 100, 'all': ALL}
_KINDS = {' real': 0, ' real + synthetic': 5}


def _paper(rows: Mapping[str, Mapping[str, tuple[float, ...]]]) -> Paper:
    """Values by row, then dataset, as values by dataset, then row."""
    return {name: {row: values[name] for row, values in rows.items()} for name in ('SegMunich', 'OSCD')}


EXPERIMENTS: dict[str, Experiment] = {
    'generation': GeneratorExperiment(
        'Do the samples look like real ones, and are their spectra right? (Tables 1 and 2)',
        {'SpecDM': 'checkpoint', 'LDM': 'against'},
        paper_figures=_FIDS,
        paper={
            'SegMunich': {'SpecDM': (5.19, _NONE, 10.79, 0.03), 'LDM': (70.44, _NONE, 50.01, 0.13)},
            'OSCD': {'SpecDM': (10.15, 10.74, 0.05, _NONE), 'LDM': (40.21, 45.99, 11.90, _NONE)},
        },
    ),
    'sad-ablation': GeneratorExperiment(
        'What does the loss on spectral angles bring? (Table 4)',
        {'SpecDM': 'checkpoint', 'without SAD loss': 'against'},
        reconstruction=True,
        paper_figures=('RMSE', 'SAD [rad]', 'cross-entropy [nat]', *_FIDS[:3]),
        paper={
            'SegMunich': {
                'SpecDM': (0.025, 0.103, 0.051, 5.19, _NONE, 10.79),
                'without SAD loss': (0.072, 0.217, 0.031, 21.05, _NONE, 15.12),
            },
            'OSCD': {
                'SpecDM': (0.034, 0.086, 0.014, 10.15, 10.74, 0.05),
                'without SAD loss': (0.051, 0.179, 0.020, 31.30, 32.49, 0.26),
            },
        },
    ),
    'augmentation': DownstreamExperiment(
        'Do synthetic pairs help beside real ones, and do they suffice alone? (Table 3)',
        {REAL: Arm(), 'synthetic': Arm(real=0, ratio=5), MIX: Arm(ratio=5)},
        paper=_paper({REAL: _BASELINE, MIX: _OURS}),
        bars={'OSCD': (_CONTROL, *_GAINS)},
    ),
    'against-ldm': DownstreamExperiment(
        'Do they help more than those of a single-stream LDM? (Table 5)',
        {REAL: Arm(), LDM: Arm(ratio=5, generator='against'), MIX: Arm(ratio=5)},
        ((MIX, REAL), (LDM, REAL), (MIX, LDM)),
        paper=_paper({REAL: _BASELINE, LDM: _LDM, MIX: _OURS}),
        bars={'OSCD': (_CONTROL, *_GAINS, _OVER_LDM)},
    ),
    'ratio': DownstreamExperiment(
        'How many synthetic pairs for each real one? (Table 6, and ten)',
        {REAL: Arm(), **{f'real + {ratio}x': Arm(ratio=ratio) for ratio in (1, 3, 5, 10)}},
        paper=_paper({REAL: _BASELINE, **_RATIOS}),
    ),
    'little-data': DownstreamExperiment(
        'With how few real pairs do synthetic ones help? Their generator has seen all of the train split.',
        {
            f'{size}{kind}': Arm(real=count, ratio=ratio)
            for size, count in _SIZES.items()
            for kind, ratio in _KINDS.items()
        },
        tuple((f'{size} real + synthetic', f'{size} real') for size in _SIZES),
    ),
    'filter': DownstreamExperiment(
        'Does it help to leave out pairs that a model of real data rejects, or to balance the classes?',
        {
            REAL: Arm(),
            'unfiltered': Arm(ratio=5),
            'aligned': Arm(ratio=5, keep='aligned'),
            'balanced classes': Arm(ratio=5, classes='balanced'),
        },
        (
            ('unfiltered', REAL),
            ('aligned', REAL),
            ('balanced classes', REAL),
            ('aligned', 'unfiltered'),
            ('balanced classes', 'unfiltered'),
        ),
    ),
    'equal-steps': DownstreamExperiment(
        'How much of a gain are more steps and flips and turns of real pairs, which the paper does not control for?',
        {
            REAL: Arm(),
            'real, not augmented': Arm(augment=False),
            'real, not augmented, a sixth of the steps': Arm(augment=False, steps=1 / 6),
            'real + synthetic, not augmented': Arm(ratio=5, augment=False),
            MIX: Arm(ratio=5),
        },
        (
            (MIX, REAL),
            (REAL, 'real, not augmented'),
            ('real, not augmented', 'real, not augmented, a sixth of the steps'),
            ('real + synthetic, not augmented', 'real, not augmented, a sixth of the steps'),
            ('real + synthetic, not augmented', 'real, not augmented'),
        ),
        bars={'OSCD': (_CONTROL,)},
    ),
}
