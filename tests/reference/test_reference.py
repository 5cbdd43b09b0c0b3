"""The reference of the definition language says what the code says."""

from __future__ import annotations

import pytest

from tests.reference.generate import REFERENCE, files


@pytest.mark.parametrize("name", files())
def test_the_reference_is_that_of_the_code(name: str) -> None:
    """If it failed, a page or the schema would tell of another language than Escrow speaks. `make docs` writes them anew."""
    assert files()[name] == (REFERENCE / name).read_text(encoding="utf-8")
