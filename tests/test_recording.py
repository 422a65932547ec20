"""Curve, pace and film of a run, without one."""

import pytest
from PIL import Image

from helpers import file_of, make_picture
from nst_helpers.explorer.recording import MAX_FRAMES, PACE_STEPS, CurvePoint, Recording

TERMS = {"total": 5.0, "content": 3.0, "style": 2.0}
JPEG = file_of(make_picture(24, 40), "JPEG")


def record(steps, seconds_per_step=0.5, recording=None):
    recording = recording or Recording()
    for step in range(1, steps + 1):
        recording.add_step(step, TERMS, seconds_per_step * step)
    return recording


def test_each_step_is_in_the_curve_once():
    recording = Recording()
    for step in (1, 2, 2, 3):
        recording.add_step(step, TERMS, 0.5 * step)
    assert recording.curve == [CurvePoint(step, 3.0, 2.0, 0.5 * step) for step in (1, 2, 3)]
    assert recording.steps_done == 3


def test_restart_takes_the_curve_from_a_history():
    recording = record(7)
    recording.add_frame(JPEG)
    recording.restart([{"step": 1, "seconds": 0.1, **TERMS}, {"step": 2, "seconds": 0.2, **TERMS}])
    assert [point.step for point in recording.curve] == [1, 2]
    assert recording.frames == []
    recording.restart()
    assert recording.curve == []
    assert recording.steps_done == 0


def test_pace_is_that_of_the_last_steps_since_a_pause():
    recording = Recording()
    assert recording.steps_per_second == 0
    record(10, 4.0, recording)
    assert recording.steps_per_second == pytest.approx(1 / 4)
    recording.restart_pace()
    assert recording.steps_per_second == 0
    for step in range(11, 11 + PACE_STEPS):
        recording.add_step(step, TERMS, 1000 + 0.1 * step)
        assert recording.steps_per_second == pytest.approx(10 if step > 11 else 0)
    recording.restart()
    record(5 * PACE_STEPS, 1.0, recording)
    for step in range(5 * PACE_STEPS + 1, 6 * PACE_STEPS + 1):
        recording.add_step(step, TERMS, 1000 + 0.1 * step)
    assert recording.steps_per_second == pytest.approx(10), "earlier steps do not count"


def test_long_film_keeps_evenly_spread_frames():
    recording = Recording()
    for number in range(5 * MAX_FRAMES):
        recording.add_frame(b"%d" % number)
    numbers = [int(frame) for frame in recording.frames]
    assert MAX_FRAMES / 2 <= len(numbers) <= MAX_FRAMES
    assert numbers == list(range(0, 5 * MAX_FRAMES, numbers[1]))[: len(numbers)]
    assert numbers[-1] + numbers[1] >= 5 * MAX_FRAMES


def test_film_is_an_animation(tmp_path):
    recording = Recording()
    for seed in range(5):
        recording.add_frame(file_of(make_picture(24, 40, seed), "JPEG"))
    path = recording.save_film(tmp_path / "film.webp")
    with Image.open(path) as film:
        assert (film.n_frames, film.size) == (5, (40, 24))


def test_film_needs_two_frames(tmp_path):
    recording = Recording()
    recording.add_frame(JPEG)
    with pytest.raises(ValueError, match="there is no film yet"):
        recording.save_film(tmp_path / "film.webp")
