"""The language of what people read: labels, hints, messages. English is the source.

The catalogues are gettext's, in ``locale``. Text is marked where it stands: ``_("...")`` translates
now, ``N_("...")`` only marks what is translated later, when it is shown. Knows no other module.
"""

from __future__ import annotations

import gettext
import os
import re
import sys
from functools import cache
from pathlib import Path

__all__ = ["set_language"]

LOCALE = Path(__file__).parent / "locale"
DOMAIN = "nst_helpers"


def languages() -> list[str]:
    """Return the languages there are, English first."""
    catalogues = LOCALE.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")
    return ["en", *sorted(path.parts[-3] for path in catalogues)]


def set_language(language: str) -> None:
    """Choose the language of labels, hints and messages, from now on.

    Without it, it is that of the environment variable ``NST_LANG``, or the system's, if there is a
    translation, and else English.

    Parameters
    ----------
    language : str
        Such as "en" or "ko".

    Raises
    ------
    ValueError
        If there is no translation into it.
    """
    if language not in languages():
        there_are = ", ".join(map(repr, languages()))
        raise ValueError(f"language must be one of {there_are}; got {language!r}")
    os.environ["NST_LANG"] = language


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, LOCALE, [language], fallback=True)


@cache
def _known(wish: str) -> str:
    """Return the language that NST_LANG asks for; English, with one line, if there is none such."""
    language = _code(wish)
    if language in languages():
        return language
    print(f"NST_LANG={wish}: there are {', '.join(languages())}; English it is", file=sys.stderr)
    return "en"


def _code(locale: str) -> str:
    """Return the language of a locale, such as ko of ko_KR.UTF-8."""
    return re.split("[-_.]", locale)[0].lower()


def current_language() -> str:
    """Return the language in force."""
    if wish := os.environ.get("NST_LANG"):
        return _known(wish)
    for variable in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):  # as gettext does
        if value := os.environ.get(variable):
            language = _code(value.split(":")[0])
            return language if language in languages() else "en"
    return "en"


def _(text: str) -> str:
    """Return a text in the language in force."""
    return _catalogue(current_language()).gettext(text) if text else ""


def N_(text: str) -> str:
    """Return the text as it is: marked for translation when it is shown."""
    return text
