"""Pictures on their way out: whole or not at all, never lost after the work, refused before it."""

import contextlib
import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from helpers import interrupted_before_each_line, make_picture
from nst_helpers import load_alpha, load_image, load_settings, save_animation, save_image
from nst_helpers.files import writing
from nst_helpers.images import validate_output

IMAGE = make_picture(24, 36)
OTHER = make_picture(24, 36, seed=1)


def is_whole(path, image=IMAGE):
    return (load_image(path) - image).abs().max() <= 0.5 / 255 + 1e-6


# --- refused before the work ---------------------------------------------------------------------


def test_every_ending_that_is_accepted_holds_the_picture(tmp_path):
    Image.init()
    accepted = []
    for ending in Image.registered_extensions():
        path = tmp_path / f"x{ending}"
        try:
            validate_output(path, (36, 24))
        except ValueError as error:
            assert "end it in .png, .jpg or .webp" in str(error)
            continue
        save_image(IMAGE, path)
        accepted.append(ending)
        with contextlib.suppress(ValueError):  # written, but not read here: PDF, PostScript
            assert load_image(path).shape == IMAGE.shape
    assert {".png", ".jpg", ".webp", ".gif", ".tif", ".bmp"} <= set(accepted)
    assert not {".ico", ".icns", ".h5", ".wmf", ".xbm", ".palm", ".blp"} & set(accepted)


@pytest.mark.parametrize(("ending", "most"), [("webp", 16383), ("jpg", 65500), ("gif", 65535)])
def test_a_format_without_room_for_the_size_is_refused_before_and_its_limit_is_true(
    tmp_path, ending, most
):
    path = tmp_path / f"wide.{ending}"
    for size in ((most + 1, 2), (2, most + 1)):
        with pytest.raises(ValueError, match=rf"wide\.{ending}.*ends at {most} pixels.*\.png"):
            validate_output(path, size)
    assert [*tmp_path.iterdir()] == []
    wide = torch.zeros(1, 3, 2, most + 1)  # painted all the same
    with pytest.raises(OSError, match=rf"ends at {most} .*; the picture is in .*wide\.png instead"):
        save_image(wide, path)
    assert load_image(tmp_path / "wide.png").shape == wide.shape
    assert not path.exists()
    assert load_image(save_image(torch.zeros(1, 3, 2, most), path)).shape == (1, 3, 2, most)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("write", [validate_output, lambda path: save_image(IMAGE, path)])
def test_what_is_no_file_is_left_alone(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.png")
    with pytest.raises(OSError, match=r"pipe\.png is a device or a pipe"):
        write("pipe.png")
    assert stat.S_ISFIFO(Path("pipe.png").lstat().st_mode)
    Path("circle.png").symlink_to("circle.png")
    with pytest.raises(OSError, match=r"circle\.png cannot be written.*link in a circle"):
        write("circle.png")


# --- what is there afterwards --------------------------------------------------------------------


def test_a_link_stays_a_link_and_rights_stay_what_they_were(tmp_path):
    target, link = tmp_path / "deep" / "target.png", tmp_path / "link.png"
    link.symlink_to(target)  # to a file, and a folder, that are not there yet
    save_image(IMAGE, link)
    target.chmod(0o640)
    save_image(OTHER, link)
    assert link.is_symlink()
    assert is_whole(target, OTHER)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_has_the_rights_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        save_image(IMAGE, tmp_path / "new.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["a" * 251, "b" * 236, "\u00fc" * 125, "with space\n", "-"])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path, name):
    path = save_image(IMAGE, tmp_path / f"{name}.png")
    assert is_whole(path)
    assert [*tmp_path.iterdir()] == [path]


def save_often(folder, seed, count=30):
    for _ in range(count):
        save_image(make_picture(24, 36, seed), Path(folder, "same.png"))


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_many_writers_to_one_name_all_succeed_with_a_whole_file(tmp_path, how):
    errors = []

    def write(seed):
        try:
            save_often(tmp_path, seed)
        except BaseException as error:
            errors.append(error)

    if how == "threads":
        workers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    else:
        spawn = multiprocessing.get_context("spawn")
        workers = [spawn.Process(target=save_often, args=(tmp_path, seed)) for seed in range(2)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        if (tmp_path / "same.png").exists():
            assert load_image(tmp_path / "same.png").shape == IMAGE.shape
        time.sleep(0.02)
    for worker in workers:
        worker.join()
        assert not getattr(worker, "exitcode", 0)
    assert errors == []
    assert any(is_whole(tmp_path / "same.png", make_picture(24, 36, seed)) for seed in range(4))
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize("nameless", [True, False])
def test_an_interrupt_before_any_line_leaves_the_old_picture_or_the_new_one(
    tmp_path, monkeypatch, nameless
):
    if not nameless:  # as on other systems
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path, results = save_image(OTHER, tmp_path / "out.png"), []
    for result in interrupted_before_each_line(lambda: save_image(IMAGE, path), [writing.__file__]):
        results.append(result)
        assert is_whole(path) or is_whole(path, OTHER)
        assert [*tmp_path.iterdir()] == [path]
        if is_whole(path):
            save_image(OTHER, path)
    assert results[-1] == path
    assert len(results) > 20


ENDLESS = """
import sys, torch
from nst_helpers import save_image
image = torch.rand(1, 3, 300, 300)
while True:
    save_image(image, sys.argv[1])
    print(flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without names")
@pytest.mark.parametrize(("how", "saves"), [(signal.SIGTERM, 1), (signal.SIGKILL, 3)])
def test_a_killed_process_leaves_a_whole_picture_and_nothing_else(tmp_path, how, saves):
    path = tmp_path / "out.png"
    command = [sys.executable, "-c", ENDLESS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for _ in range(saves):
            process.stdout.readline()
        process.send_signal(how)
    assert load_image(path).shape == (1, 3, 300, 300)
    assert [*tmp_path.iterdir()] == [path]


# --- after the work ------------------------------------------------------------------------------


@contextlib.contextmanager
def a_full_disk(monkeypatch, folder):
    """Let what is written below a folder fail as if no room was left."""
    fsync = os.fsync

    def full(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("ending", ["png", "webp", "gif"])
def test_what_cannot_be_written_after_the_work_is_elsewhere_and_the_error_says_where(
    tmp_path, monkeypatch, ending
):
    full, here, spare = (tmp_path / name for name in ("full", "here", "spare"))
    for folder in (full, here, spare):
        folder.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    path = save_image(OTHER, full / f"out.{ending}")
    old = path.read_bytes()
    (here / "out.png").write_bytes(b"precious")
    with a_full_disk(monkeypatch, full), pytest.raises(OSError) as caught:
        save_image(IMAGE, path)
    assert f"{path} cannot be written" in str(caught.value)
    assert f"{os.strerror(errno.ENOSPC)}; the picture is in {here / 'out-1.png'}" in str(
        caught.value
    )
    assert is_whole(here / "out-1.png")
    with a_full_disk(monkeypatch, full), pytest.raises(OSError, match="the picture is in"):
        save_animation([IMAGE, OTHER], path.with_suffix(".gif"))
    with Image.open(here / "out-2.png") as film:
        assert film.n_frames == 2
    assert path.read_bytes() == old
    assert (here / "out.png").read_bytes() == b"precious"
    assert [*full.iterdir()] == [path]
    assert len([*here.iterdir()]) == 3
    assert [*spare.iterdir()] == []
    with a_full_disk(monkeypatch, tmp_path), pytest.raises(OSError, match=r"nor .* anywhere else"):
        save_image(IMAGE, path)
    assert len([*tmp_path.rglob("*.*")]) == 4


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said_before_and_after_the_work(tmp_path, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PermissionError, match=r"out\.png cannot be written .*: Permission denied"):
        validate_output(locked / "out.png")
    with pytest.raises(OSError, match="the picture is in"):
        save_image(IMAGE, locked / "out.png")
    assert is_whole(tmp_path / "out.png")


def test_a_format_that_fails_after_the_work_becomes_a_png_beside_it(tmp_path, monkeypatch):
    real = Image.Image.save

    def save(self, file, kind, **options):
        if kind == "WEBP" and self.size != (1, 1):
            raise ValueError("encoding error 5")
        real(self, file, kind, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    message = r"out\.webp cannot be written; the picture is in .*out\.png instead"
    with pytest.raises(OSError, match=message):
        save_image(IMAGE, tmp_path / "out.webp")
    assert is_whole(tmp_path / "out.png")
    assert len([*tmp_path.iterdir()]) == 1


# --- transparency --------------------------------------------------------------------------------

ALPHA = torch.linspace(0, 1, 36).expand(1, 1, 24, 36)


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_a_cut_out_stays_one(tmp_path, ending):
    path = save_image(IMAGE, tmp_path / f"out.{ending}", alpha=ALPHA)
    with Image.open(path) as picture:
        assert picture.mode == "RGBA"
    assert (load_alpha(path) - ALPHA).abs().max() < 0.003
    on_white = IMAGE * ALPHA + 1 - ALPHA
    assert (load_image(path) - on_white).abs().mean() < (0.02 if ending == "webp" else 0.003)


@pytest.mark.parametrize("ending", ["jpg", "bmp", "gif"])
def test_where_nothing_is_transparent_it_is_white_and_said_in_one_line(tmp_path, ending):
    with pytest.warns(UserWarning, match=rf"out\.{ending} is white where .*\.png") as caught:
        path = save_image(IMAGE, tmp_path / f"out.{ending}", alpha=ALPHA)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert (load_image(path) - (IMAGE * ALPHA + 1 - ALPHA)).abs().mean() < 0.05
    assert load_alpha(path).min() == 1


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_that_is_all_opaque_is_saved_as_ever(tmp_path, ending):
    plain = save_image(IMAGE, tmp_path / f"plain.{ending}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = save_image(IMAGE, tmp_path / f"out.{ending}", alpha=torch.ones_like(ALPHA))
    assert path.read_bytes() == plain.read_bytes()


def test_settings_and_transparency_go_together(tmp_path):
    record = {"alpha": np.float32(0.5), "steps": np.int64(3), "names": ["\u00e4"]}
    path = save_image(IMAGE, tmp_path / "out.png", record, alpha=ALPHA)
    assert load_settings(path) == {"alpha": 0.5, "steps": 3, "names": ["\u00e4"]}
    assert (load_alpha(path) - ALPHA).abs().max() < 0.003


@pytest.mark.skipif(not features.check("avif"), reason="not in every Pillow")
def test_saved_pictures_are_srgb_without_a_profile(tmp_path):
    for ending in ("png", "jpg", "webp", "avif"):
        with Image.open(save_image(IMAGE, tmp_path / f"out.{ending}")) as picture:
            assert "icc_profile" not in picture.info
