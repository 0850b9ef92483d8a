"""Stage `report`: a study's table beside the paper's, as csv, md and json, and its page.

The cells come from the params alone; a score file that no cell asks for is not read.
"""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

from pipeline.cells import GridParams
from pipeline.reporting import table
from pipeline.reporting.findings import findings
from pipeline.reporting.page import render
from pipeline.reporting.tables import as_csv
from pipeline.running import stage
from pipeline.study import Study, asked_study

__all__ = ["main"]


def main(study: Study) -> None:
    """Read params and scores, write the table, the page and what else the study shows."""
    grid, paper, part = study.section("grid", GridParams), study.part("paper"), study.part("page")
    inputs = part.read()
    headline = study.section("score", study.part("params").ScoreParams).headline
    sensors = {name: cell.fuses(study.modalities) for name, cell in grid.cells.items()}
    columns = paper.columns(study.modalities, not table.differ(sensors.values()))
    theirs = paper.TABLE if headline == paper.METRIC else {}
    rows = table.build(
        {name: (cell.fusion, cell.objective) for name, cell in grid.cells.items()},
        {run: figures for run, figures in inputs.resampled.items() if run[0] in grid.cells},
        {
            seed: {f"synergy/{m}": inputs.resampled[m, seed][f"synergy/{m}"] for m in names}
            for names in [study.modalities]
            for seed in grid.seeds
        },
        inputs.trainings,
        columns,
        {
            name: theirs.get((cell.fusion, cell.objective), {})
            for name, cell in grid.cells.items()
            if set(paper.SENSORS) <= set(sensors[name])  # its figures are from all of these
        },
        sensors,
    )
    found = findings(rows, paper.claims(columns))
    page = part.page(inputs, rows)
    flat = [{**row.flat(), **page.marks} for row in rows]
    csv = as_csv(flat, [*table.keys(columns), *page.marks])
    markdown = table.as_markdown(rows, columns, page.legend, page.decoded)
    if page.origin:  # tables are copied elsewhere without the page
        markdown = f"{page.origin}\n\n{markdown}"
    told = {"seeds": grid.seeds, "rows": flat, "findings": [one._asdict() for one in found]}
    file = study.results / page.table
    stage.write_bytes(file.with_suffix(".csv"), csv.encode())
    stage.write_bytes(file.with_suffix(".md"), markdown.encode())
    stage.write_json(file.with_suffix(".json"), {**page.marks, **told, **page.told})
    for name, content in page.files.items():
        stage.write_bytes(study.results / name, content)
    html = render(study, page, rows, columns, found, grid.seeds)
    stage.write_bytes(study.results / "report.html", html.encode())
    wrong = [finding.claim for finding in found if finding.verdict == "disagrees"]
    print(markdown + "".join(f"not as in the paper: {claim}\n" for claim in wrong))
    print(f"To look at: {study.results / 'report.html'}")


if __name__ == "__main__":
    asked = asked_study(__doc__)
    with asked.running("report", lambda: "all that it shows is kept"):
        main(asked)
