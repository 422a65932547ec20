"""Films of a run: frames at equal changes, shown with their file inside."""

import base64
import re

import pytest
import torch

import nst_helpers as nst
from nst_helpers.lesson.film import frames_by_progress, show_film


def run(levels, totals=None):
    """A result whose snapshot of each step is one grey level."""
    totals = totals or range(len(levels), 0, -1)
    snapshots = {i: torch.full((1, 3, 4, 4), level) for i, level in enumerate(levels, 1)}
    history = [{"step": i, "total": float(total)} for i, total in enumerate(totals, 1)]
    return nst.Result(snapshots[len(levels)], history, snapshots)


@pytest.mark.parametrize(
    ("levels", "count", "steps"),
    [
        ([0, 0.1, 0.2, 0.3, 0.4], 3, [1, 3, 5]),
        ([0, 0.5, 0.9, 0.95, 1.0], 3, [1, 2, 5]),  # much at first, little at the end
        ([0, 0.5, 0.0, 0.5, 0.0], 5, [1, 2, 3, 4, 5]),  # a way back is a way
        ([0, 1.0], 9, [1, 2]),
        ([0.5, 0.5, 0.5], 2, [1, 3]),
    ],
)
def test_the_image_changes_by_as_much_between_frames(levels, count, steps):
    result = run(levels)
    frames = frames_by_progress(result, count)
    assert next(iter(frames)) == steps[0]
    assert set(frames) <= set(steps)
    if len(set(levels)) > 1:
        assert list(frames) == steps
    assert all(frames[step] is result.snapshots[step] for step in frames)


def test_steps_that_went_too_far_are_left_out_but_the_last_is_kept():
    result = run([0, 0.9, 0.1, 0.2, 0.3], totals=[5, 9, 4, 3, 6])
    assert list(frames_by_progress(result, 9)) == [1, 3, 4, 5]


@pytest.mark.parametrize("snapshots", [{}, {1: torch.zeros(1, 3, 4, 4)}])
def test_a_film_needs_two_images(snapshots):
    result = run([0, 1.0])
    result.snapshots = snapshots
    with pytest.raises(ValueError, match="two snapshots or more"):
        frames_by_progress(result, 3)


def test_a_film_is_shown_with_its_file_inside_and_its_text_escaped(tmp_path):
    images = [torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)]
    path = nst.save_animation(images, tmp_path / "film.webp")
    shown = show_film(path, 'noise, and then "a cup" <here>').data
    kind, data = re.search(r'src="data:image/(\w+);base64,([^"]+)"', shown).groups()
    assert kind == "webp"
    assert base64.b64decode(data) == path.read_bytes()
    assert 'alt="noise, and then &quot;a cup&quot; &lt;here&gt;"' in shown
