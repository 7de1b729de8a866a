from __future__ import annotations

from medmoe_cli.core.reporting.figures import new_figure, png_of
from medmoe_cli.core.reporting.page import Code, Missing, Page, Picture, Section, Table, Terms, Text, is_page, render
from tests.tools.reports import ReadPage

NASTY = "<script>alert('x')</script> & \"liver\""


def small_picture(name: str = "dots") -> Picture:
    figure = new_figure(2.0, 1.0)
    figure.subplots().plot([0, 1])
    return Picture(name=name, png=png_of(figure), alt=NASTY, caption=NASTY)


def page(*blocks: object) -> Page:
    section = Section(title="Best, worst & more", blocks=blocks)  # type: ignore[arg-type]
    return Page(title=NASTY, subtitle=NASTY, footer=NASTY, sections=(section,))


def test_every_value_is_escaped_and_nothing_is_loaded_from_elsewhere() -> None:
    table = Table(caption=NASTY, columns=(NASTY, NASTY), rows=((NASTY, NASTY),), note=NASTY, swatches=("#0072B2",))
    blocks = (
        Text(text=NASTY, tone="result"),
        Missing(part=NASTY, why=NASTY),
        table,
        small_picture(),
        Code(lines=(NASTY,)),
        Terms(meanings=((NASTY, NASTY),)),
    )
    html = render(page(*blocks))
    found = ReadPage(html)
    assert "script" not in found.tags
    assert found.outside == []
    assert found.text.count("alert('x')") == 17
    assert found.alts == [NASTY]
    assert "default-src 'none'" in html


def test_links_lead_to_sections_and_pictures_are_whole() -> None:
    picture = small_picture()
    found = ReadPage(render(page(picture)))
    assert found.links == found.anchors == {"best-worst-more"}
    assert found.pictures == [picture.png]
    assert picture.width_px == 210  # 2 inches


def test_equal_figures_are_equal_files_and_a_page_knows_itself() -> None:
    first, second = small_picture(), small_picture()
    assert first.png == second.png
    assert is_page(render(page(first)))
    assert not is_page("<!DOCTYPE html><html><head></head><body>my own</body></html>")
