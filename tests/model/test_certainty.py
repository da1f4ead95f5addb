"""How sure a classification is, with numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from split_core.model.certainty import certainty


def test_probabilities_are_taken_as_they_are():
    assert certainty(np.array([[0.2, 0.5, 0.3]], np.float32)) == pytest.approx(0.2)
    assert certainty(np.array([0.5, 0.5])) == 0.0
    assert certainty(np.array([0.0, 1.0])) == 1.0


def test_of_logits_it_is_their_softmax():
    # e^0 : e^ln 3 = 1 : 3.
    assert certainty(np.array([0.0, math.log(3)])) == pytest.approx(0.5)
    assert certainty(np.array([-1000.0, 1000.0])) == 1.0


def test_integer_probabilities_that_round_to_nothing_leave_the_others_alone():
    scores = np.zeros(1001, np.float32)
    scores[:2] = 100 / 256, 50 / 256
    assert certainty(scores) == pytest.approx(50 / 256)


def test_one_class_is_certain_and_what_is_not_finite_is_nothing():
    assert certainty(np.array([0.3])) == 1.0
    assert math.isnan(certainty(np.array([0.1, np.nan]))) and math.isnan(
        certainty(np.array([np.inf, 0.0])))
