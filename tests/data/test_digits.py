"""The embedded digits are scikit-learn's, at full contrast."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from edgekd.data.digits import digits
from edgekd.errors import UsageError


def test_the_digits_are_scikit_learn_s_whole() -> None:
    source, table = digits(""), load_digits()
    split = source.splits["train"]
    assert list(source.splits) == ["train"]
    assert source.labels == tuple("0123456789")
    assert len(split) == 1797
    assert (split.targets == table.target).all()
    for i in (0, 1, 1796):
        image = split.image(i)
        assert image.size == (8, 8)
        assert np.abs(np.asarray(image) / 255 - table.images[i] / 16).max() < 0.5 / 255 + 1e-9


def test_ink_is_white_at_its_strongest() -> None:
    split = digits("").splits["train"]
    assert max(int(np.asarray(split.image(i)).max()) for i in range(50)) == 255


def test_digits_are_never_mirrored() -> None:
    assert digits("").augment == "shift"


def test_a_digit_has_a_name_for_messages() -> None:
    assert digits("").splits["train"].name(7) == "digit number 7"


def test_nothing_may_stand_behind_the_name() -> None:
    with pytest.raises(UsageError, match="digits takes nothing behind it, found 'x'"):
        digits("x")
