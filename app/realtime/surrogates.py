r"""Half a surrogate pair in JSON: an escape such as `\ud83d` without its other half, as in a text that was cut apart.

RFC 8259, 8.2, allows it and leaves open what it means. UTF-8 cannot carry it and many decoders refuse it, so it must
not reach a client. The decoder here refuses it, too; this module tells such text from what is no JSON at all. Nothing
is replaced in what is passed on: two ids that differ must not become one.
"""

from __future__ import annotations

import re

HALF_A_PAIR = r"a string has half a surrogate pair, such as \ud83d alone, which UTF-8 cannot carry"

# A pair, a half, or any other escape: that of a backslash begins no other one.
_ESCAPE = re.compile(rb"\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(\\u[dD][89a-fA-F][\da-fA-F]{2})|\\.")


def without_halves(text: bytes) -> bytes | None:
    r"""The same JSON, byte for byte as long, with `\ufffd` for each half of a pair; None if it has none.

    >>> without_halves(rb'"\ud83d \ud83c\udf88 \\ud83d"')
    b'"\\ufffd \\ud83c\\udf88 \\\\ud83d"'
    >>> without_halves(rb'"\ud83c\udf88"') is None
    True
    """
    mended = _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], text)
    return None if mended == text else mended
