"""The documents say what is so."""

import re
from pathlib import Path

import pytest

from tests.solver_page import AGAIN, DOCS, PICTURE, picture_of, run_page


def test_the_solver_page_is_true_and_its_picture_is_the_plans() -> None:
    wrong, names = run_page()
    assert wrong == ""
    assert len(names) > 10
    assert PICTURE.read_text() == picture_of(names), f"draw it anew: {AGAIN}"


PAGES = (DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    lost = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert lost == []
