"""What a file is by its first bytes, where it is no picture that can be read: with the way out."""

from __future__ import annotations

import re
from pathlib import PurePath

__all__ = ["CONVERT", "HEAD_BYTES", "RAW", "kind_of", "looks_like"]

HEAD_BYTES = 4096  # of a file, to tell what it is
CONVERT = "open it in a program that shows it, and save it as JPEG or PNG"
RAW = "a camera's raw file, of which only a small preview could be read: develop it to JPEG or PNG"
VIDEO = "a video: save one of its pictures as JPEG or PNG"
PROGRAM = "a program that draws (PostScript), which is never run: save it as PNG"
# First bytes as a regular expression, and what the file is.
BEGINNINGS: list[tuple[bytes, str]] = [
    (rb"%PDF-", "a PDF document: save the page as PNG"),
    (rb"%!|\xc5\xd0\xd3\xc6|\x04%!", PROGRAM),
    (rb"8BPS", "a Photoshop document: export it as PNG"),
    (rb"gimp xcf", "a GIMP document: export it as PNG"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file: run `git lfs pull`"),
    (rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM|II[*]\0.{4}CR|.{4}ftypcrx ", RAW),
    (rb"\xff\x0a|\0{3}\x0cJXL ", f"a JPEG XL picture: {CONVERT}"),
    (rb".{4}ftyp(?!hei|hev|mif1|msf1|avi[fs])|.{4}(moov|mdat|wide)", VIDEO),
    (rb"\x1aE\xdf\xa3|RIFF.{4}AVI |\0\0\x01[\xb3\xba]|FLV\x01|OggS|0&\xb2u", VIDEO),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh", "an archive: unpack it, and give the picture"),
    (rb"\x93NUMPY", "an array of numpy's: use to_image(numpy.load(...))"),
    (rb"\x89HDF", "an HDF5 file, of data"),
    (rb"SIMPLE  =", f"a FITS file, of astronomy: {CONVERT}"),
]
TEXTS = [
    (r"<!doctype html|<html", "a web page: save the picture that it shows instead"),
    (r"<svg[\s>]", "an SVG drawing, made of lines and not of pixels: export it as PNG"),
]
RAW_ENDINGS = re.compile(
    r"\.(3fr|arw|cr[23w]|dcr|dng|erf|iiq|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw"
    r"|rw2|rwl|sr2|srf|srw|x3f)",
    re.IGNORECASE,
)
READABLE = [
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8", "JPEG"),
    (b"GIF8", "GIF"),
    (b"RIFF", "WebP"),
    (b"BM", "BMP"),
    (b"II[*+]\0|MM\0[*+]", "TIFF"),
    (b".{4}ftypavi[fs]", "AVIF"),
    (b".{4}ftyp", "HEIC"),
]


def kind_of(name: str, head: bytes) -> str | None:
    """Return what a file is, and the way out, if it is known and none that can be read.

    Parameters
    ----------
    name : str
        Of the file; its ending tells a camera's raw file.
    head : bytes
        Its first ``HEAD_BYTES``.
    """
    if not head:
        return "empty (0 bytes)"
    for beginning, kind in BEGINNINGS:
        if re.match(beginning, head, re.DOTALL):
            return kind
    if RAW_ENDINGS.fullmatch(PurePath(name).suffix) and looks_like(head) in (None, "TIFF"):
        return RAW
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1", "ignore")
    if text.lstrip("\ufeff\xef\xbb\xbf \t\r\n").startswith("<"):
        for pattern, kind in TEXTS:
            if re.search(pattern, text, re.IGNORECASE):
                return kind
    return None


def looks_like(head: bytes) -> str | None:
    """Return which picture format a file begins as, if it is one that people know by name."""
    names = (name for start, name in READABLE if re.match(start, head, re.DOTALL))
    return next(names, None)
