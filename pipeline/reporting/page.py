"""A study's page: one self-contained file, of sections of which a study has some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from base.files import as_json
from pipeline.reporting.findings import Finding
from pipeline.reporting.legend import EMPTY
from pipeline.reporting.table import Column, Row, differ
from pipeline.study import FOLDER, Study

__all__ = ["Page", "render"]

SECTIONS = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Page:
    """What a study's results hold beside the table and the findings.

    Attributes:
        table: the name of the table's files, as table1.
        title, heading, table_title: of the document, the page and the table.
        sections: template -> its title. A template lies in the study's `sections/`, or in
            `reporting/page/`; so do lead.j2 and note.j2, the texts at the head and under the table.
        legend: what the table's letters and signs mean, in its file for people.
        decoded: how its figures were decoded.
        origin: whose data it shows, in a sentence; first in that file.
        marks: the same in further columns of the table's csv and keys of its json.
        remarks: sentences under the findings.
        told: what the table's json holds besides.
        context: what the templates need besides.
        files: other results, by their names.
    """

    table: str
    title: str
    heading: str
    table_title: str
    sections: Mapping[str, str]
    legend: str
    decoded: str = ""
    origin: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def render(
    study: Study,
    page: Page,
    rows: Sequence[Row],
    columns: Sequence[Column],
    found: Sequence[Finding],
    seeds: Sequence[int],
) -> str:
    """The page as HTML, with everything that it shows in it."""
    environment = Environment(
        loader=FileSystemLoader([FOLDER / study.name / "sections", SECTIONS]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_function"] = as_json
    paper = {key for row in rows for key, figure in row.figures.items() if figure.paper is not None}
    return environment.get_template("page.html.j2").render(
        title=page.title,
        heading=page.heading,
        table_title=page.table_title,
        sections=page.sections,
        claims=found,
        remarks=page.remarks,
        columns=[column for column in columns if column.printed],
        paper_keys=paper,
        rows=[row.flat() for row in rows],
        empty=EMPTY if differ(row.sensors for row in rows) else "",
        seeds=seeds,
        write=_write,
        aliases=getattr(study.part("paper"), "ALIASES", {}),
        modalities=study.modalities,
        **page.context,
    )


def _write(value: float | None, form: str) -> str:
    """A figure, or a dash where none is defined."""
    return "–" if value is None else form.format(value).replace("-", "−")
