"""Settings in PNG files: a dict comes back, or an error of ours that names the file."""

import io
import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from helpers import make_picture
from nst_helpers import load_settings, save_image

RECORD = {"alpha": 0.001, "style": "M\u00e4dchen \u2713", "layers": {"relu1_1": [1, None, True]}}
DEEP = "[" * 100_000


def png(text, kind="itxt", zip=False):
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    getattr(info, f"add_{kind}")("nst_helpers", text, zip=zip)
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_text(data, size=(4, 4)):
    """A PNG file with a text of ours, whatever it is, and pixels that are none."""
    head = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"iTXt", b"nst_helpers\0" + data), chunk(b"IDAT", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), VALUES, max_size=4))
def test_any_settings_that_json_holds_come_back(tmp_path_factory, record):
    path = tmp_path_factory.getbasetemp() / "settings.png"
    assert load_settings(save_image(make_picture(4, 5), path, record)) == record


@pytest.mark.parametrize(("kind", "zip"), [("itxt", True), ("text", False), ("text", True)])
def test_settings_that_an_editor_has_stored_anew_are_still_read(kind, zip):
    assert load_settings(png(json.dumps(RECORD), kind, zip)) == RECORD


def test_settings_are_read_without_decoding_the_picture():
    text = b"\0\0\0\0" + json.dumps(RECORD).encode()
    assert load_settings(with_text(text, size=(2**31 - 1, 2**31 - 1))) == RECORD


@pytest.mark.parametrize(
    "content",
    [
        *map(png, ["null", "[1]", "5", '"a"', "NaN", '{"a": NaN}', '{"a": -Infinity}']),
        *map(png, ['{"a": 1e999}', DEEP, '{"a": ' * 100_000, "{", "", '{"a": ' + "9" * 5000 + "}"]),
        with_text(b"\0\0\0\0\xff\xfe"),
        with_text(b"\1\0\0\0broken"),
        with_text(b"\1\0\0\0" + zlib.compress(bytes(200 << 20), 9)),
        with_text(b""),
    ],
)  # fmt: skip
def test_settings_that_are_none_are_refused_with_the_file_s_name(tmp_path, content):
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.png holds settings that are broken$") as caught:
        load_settings(path)
    assert type(caught.value) is ValueError
    with pytest.raises(ValueError, match="this file holds settings"):
        load_settings(content)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", bytes(100), png("{}")[:30]]
)
def test_a_file_without_settings_says_so(content):
    with pytest.raises(ValueError, match=r"this file holds no settings of this package"):
        load_settings(content)


def test_settings_within_themselves_are_refused(tmp_path):
    record = {}
    record["again"] = record
    with pytest.raises(ValueError, match="none within itself"):
        save_image(make_picture(4, 5), tmp_path / "out.png", record)
    with pytest.raises(TypeError, match="settings hold a object, which a file cannot"):
        save_image(make_picture(4, 5), tmp_path / "out.png", {"alpha": object()})
    assert [*tmp_path.iterdir()] == []
