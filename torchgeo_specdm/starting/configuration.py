"""A configuration of ``specdm fit`` as YAML with comments."""

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.sizes import AUTO, choose_sizes
from torchgeo_specdm.starting.drafts import Draft
from torchgeo_specdm.starting.look import Findings

_LINE = 116


def configuration(draft: Draft, patch_size: int | str = AUTO) -> dict[str, Any]:
    """The data of a draft."""
    arguments = draft.arguments | {'patch_size': patch_size}
    return {'data': {'class_path': draft.class_path, 'init_args': arguments}}


def finish(draft: Draft, findings: Findings, command: str) -> str:
    """The whole file: all stages, with sizes for this data.

    Args:
        draft: The data; its range of values is filled in.
        findings: What was measured.
        command: What the file was written by.

    Raises:
        SpecDMError: All pixels that were looked at are blank (0 in all bands) or of one value.
    """
    train, spec = findings.parts['train'], findings.spec
    low, high = float(train.low.min()), float(train.high.max())
    if not low < high:
        what = f'{low:g} or blank' if low == high else 'blank'
        raise SpecDMError(f'all pixels of the train patches that were looked at are {what}: nothing to learn')
    draft.arguments['declared']['value_range'] = [float(f'{low:g}'), float(f'{high:g}')]
    sizes = choose_sizes(spec, train.patches)
    config: dict[str, Any] = {
        'seed_everything': 0,
        'trainer': {'default_root_dir': f'runs/{draft.name.replace(" ", "-").lower()}', 'check_val_every_n_epoch': 5},
        **configuration(draft, spec.patch_size),
    }
    notes = {f'data.init_args.{name}': text for name, text in draft.notes.items()} | {
        'data.init_args.patch_size': 'recommended: see torchgeo_specdm/sizes.py; a multiple of 4',
        'data.init_args.declared.value_range': f'measured on {train.looked} of {train.patches} train patches',
    }
    head = [
        f'Written by "{command}". What is called guessed or to be declared must be checked: nobody has.',
        *findings.lines(),
    ]
    text = ''.join(f'{line}\n' for each in head for line in _comment(each, ''))
    stages = _STAGES.format(
        latents=list(sizes.latent_channels),
        width=list(sizes.width),
        widths=list(sizes.widths),
        pairs=train.patches,
        patch=spec.patch_size,
        bands=spec.num_bands,
    )
    return text + render(config, notes) + stages


_STAGES = """\
# The preset examples/conf/auto.yaml, with the sizes that it takes for {pairs} pairs of {patch} px and {bands} bands.
# max_steps is the preset's too: more steps, up to overfitting, are better.
stages:
- model:
    class_path: AutoencoderTask
    init_args: {{latent_channels: {latents}, width: {width}, kl_weight: 0.05, sad_weight: 1.0}}
  trainer: {{max_steps: 5000}}
- model:
    class_path: LatentDiffusionTask
    init_args: {{widths: {widths}, depth: 1, prediction: v_prediction, class_control: true, lr: 8.0e-4, final_lr: 0.05}}
  trainer: {{max_steps: 6000}}
  data: {{init_args: {{batch_size: 32}}}}
- model:
    class_path: JudgeTask
  trainer: {{max_steps: 300, check_val_every_n_epoch: 1}}
"""


def render(config: Mapping[str, Any], notes: Mapping[str, str], path: str = '', indent: str = '') -> str:
    """A mapping as YAML; a comment stands above the entry whose path, joined by dots, it has in ``notes``."""
    text = ''
    for key, value in config.items():
        where = f'{path}.{key}' if path else str(key)
        text += ''.join(f'{line}\n' for line in _comment(notes[where], indent)) if where in notes else ''
        name = yaml.safe_dump(key).removesuffix('\n...\n').strip()
        if isinstance(value, Mapping) and value:
            text += f'{indent}{name}:\n{render(value, notes, where, indent + "  ")}'
        else:
            flow = yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False, allow_unicode=True)
            text += f'{indent}{name}: {flow.strip().removesuffix("...").strip()}\n'
    return text


def _comment(text: str, indent: str) -> list[str]:
    lead = f'{indent}# '
    return textwrap.wrap(text, _LINE, initial_indent=lead, subsequent_indent=f'{lead}  ', break_on_hyphens=False)
