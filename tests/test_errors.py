"""What a user reads when something is wrong."""

import copy

import pytest

from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.models import build_autoencoder


def test_a_message_is_what_was_said() -> None:
    assert str(SpecDMError('this is wrong')) == 'this is wrong'
    assert str(copy.copy(CheckpointError('this is wrong'))) == 'this is wrong'


def test_a_value_without_end_leaves_what_is_wrong_and_what_to_do() -> None:
    with pytest.raises(
        SpecDMError, match=r"^autoencoder is \['x', .* \[\.\.\.\] .*it must be one of two_stream"
    ) as caught:
        build_autoencoder({'kind': ['x'] * 10_000})
    assert len(str(caught.value)) < 1100
    # As a process of workers hands it on
    assert str(copy.copy(caught.value)) == str(caught.value)
