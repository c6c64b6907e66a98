import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.paging import decode_cursor, encode_cursor


@given(st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1))
def test_a_cursor_gives_back_its_key(key: str) -> None:
    assert decode_cursor(encode_cursor(key)) == key


@given(st.text())
def test_any_text_is_a_cursor_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        assert decode_cursor(text)


@pytest.mark.parametrize("forged", ["", "%", "AA", "=", "gA"])
def test_a_forged_cursor_is_refused(forged: str) -> None:
    with pytest.raises(InvalidInputError):
        decode_cursor(forged)
