"""Numbers and arrays in the words of nnet3-info."""

from __future__ import annotations

import numpy as np
import pytest

from nnet.components.summary import general, rms, succinct, summarize_vector


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12345.6"),
        (9999.0, "9999"),
        (10.0, "10"),
        (1.26, "1.3"),
        (0.995, "1.0"),
        (0.9949, "0.99"),
        (0.01, "0.01"),
        (0.0099, "0.01"),
        (0.00012, "0.0001"),
        (-0.5, "-0.50"),
        (0.0, "0"),
    ],
)
def test_succinct_numbers(value: float, text: str) -> None:
    assert succinct(float(np.float32(value))) == text


def test_general_numbers_print_as_in_cplusplus() -> None:
    assert general(0.1 + 0.2) == "0.3"
    assert general(1e-05) == "1e-05"
    assert general(2000.0) == "2000"
    assert general(1234567.0) == "1.23457e+06"


def test_short_vectors_are_printed_whole() -> None:
    assert summarize_vector(np.array([0.5, 12, -1], np.float32)) == "[ 0.50 12 -1.0 ]"


def test_long_vectors_are_printed_as_percentiles() -> None:
    assert summarize_vector(np.arange(101, dtype=np.float32)) == (
        "[percentiles(0,1,2,5 10,20,50,80,90 95,98,99,100)="
        "(0,1.0,2.0,5.0 10,20,50,80,90 95,98,99,100), mean=50, stddev=29.2]"
    )


def test_rms() -> None:
    assert rms("x", np.array([[3, 4]], np.float32)) == "x-rms=3.536"
