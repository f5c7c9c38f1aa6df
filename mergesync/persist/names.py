"""File names for path ids: one for each, readable, on any system, and never outside the folder.

Letters, digits, `-`, `_` and `.` stand for themselves; every other byte of the UTF-8 form is `%` and two capital digits
(a lone surrogate has its three bytes as if it were a character). So `petShop` is `petShop.json`, `team/a` is
`team%2Fa.json`. Also escaped are a dot in front, the first letter of what Windows reserves (`con`, `nul`, ...), and
in a folder where `A` and `a` name the same file, capitals. The empty id is `%.json`. An id that would be too long is
cut and ends with `%~` and a hash; a file beside it says the whole id.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

__all__ = ["PATH_ID_SUFFIX", "file_name", "is_cut", "path_id_of"]

PATH_ID_SUFFIX: Final = ".path-id"
"""Added to the name of the file of a cut id, it names the file that says the id."""

_SUFFIX: Final = ".json"
_MAX_STEM: Final = 180  # with suffix, side files and temporaries this stays below the 255 bytes of usual file systems
_CUT_STEM: Final = 140
_CUT_MARK: Final = "%~"
_ESCAPED = re.compile(rb"[^0-9A-Za-z_.-]")
_ESCAPED_FOLDED = re.compile(rb"[^0-9a-z_.-]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE | re.DOTALL)
_ESCAPE = re.compile(r"%([0-9A-F]{2})")
_TORN_ESCAPE = re.compile(r"%[0-9A-F]?$")


def file_name(path_id: str, *, fold_case: bool = False) -> str:
    """The name of the file of a path.

    Args:
        path_id: any string.
        fold_case: whether the folder takes `A` and `a` for the same.

    Example:
        >>> file_name("petShop"), file_name("team/a"), file_name("petShop", fold_case=True)
        ('petShop.json', 'team%2Fa.json', 'pet%53hop.json')
    """
    escaped = _ESCAPED_FOLDED if fold_case else _ESCAPED
    utf8 = path_id.encode("utf-8", "surrogatepass")
    stem = escaped.sub(lambda match: b"%%%02X" % match[0][0], utf8).decode()
    if stem[:1] == "." or _RESERVED.fullmatch(stem):
        stem = f"%{ord(stem[0]):02X}{stem[1:]}"
    if len(stem) > _MAX_STEM:
        stem = _TORN_ESCAPE.sub("", stem[:_CUT_STEM]) + _CUT_MARK + hashlib.sha256(utf8).hexdigest()[:32]
    return (stem or "%") + _SUFFIX


def is_cut(name: str) -> bool:
    """Whether a file name does not say the whole id."""
    return _CUT_MARK in name


def path_id_of(name: str, *, fold_case: bool = False) -> str | None:
    """The path id that a file name says, or None if it is not the name of any, or a cut one.

    Example:
        >>> path_id_of("team%2Fa.json"), path_id_of("notes.txt")
        ('team/a', None)
    """
    stem = name.removesuffix(_SUFFIX)
    try:
        utf8 = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), "" if stem == "%" else stem).encode("latin-1")
        path_id = utf8.decode("utf-8", "surrogatepass")
    except UnicodeError:
        return None
    return path_id if file_name(path_id, fold_case=fold_case) == name else None
