"""Sample ids to UTC, as the other clients have it."""

from __future__ import annotations

import numpy as np
import pytest

from wavekeep.time_axis import Piece, TimeAxis, duration_ns, sample_at

RATES = (1e6, 2e6, 1e5, 1000.0, 48_000.0, 44_100.0, 29_500_000.0, 3.0, 0.1, 1e9 / 7, 1e12)


@pytest.mark.parametrize("rate_hz", RATES)
def test_the_vector_form_agrees_with_the_scalar_one_in_every_bit(rate_hz: float) -> None:
    for skipped in (0, 3, 65_535, 10**9 + 7):
        piece = Piece(100 + skipped, 100 + skipped + 500, 100, 1_700_000_000_000_000_000)
        times = TimeAxis(rate_hz, [piece]).times_ns()
        expected = [min(piece.utc_ns + duration_ns(skipped + at, rate_hz), (1 << 63) - 1) for at in range(500)]
        assert times.tolist() == expected


def test_nanoseconds_are_rounded_half_away_from_zero() -> None:
    assert [duration_ns(at, 2e9) for at in range(5)] == [0, 1, 1, 2, 2]
    assert duration_ns(44_100 * 86_400, 44_100.0) == 86_400 * 10**9
    assert duration_ns(1 << 62, 0.1) == (1 << 63) - 1


def test_the_first_sample_at_or_after_a_time_is_found() -> None:
    found = [sample_at(10, 20, 1_000, 1e9, time_ns) for time_ns in (0, 1_000, 1_001, 1_009, 1_010, 5_000)]
    assert found == [10, 10, 11, 19, 20, 20]


def test_pieces_follow_each_other_whatever_their_clocks_say() -> None:
    axis = TimeAxis(1e9)
    for piece in (Piece(5, 7, 5, 100), Piece(7, 7, 7, 500), Piece(7, 9, 6, 50)):
        axis.append(piece)
    assert axis.times_ns().tolist() == [100, 101, 51, 52]
    assert axis.times_ns().dtype == np.int64
