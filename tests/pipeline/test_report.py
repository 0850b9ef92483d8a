"""report.html and Table III: complete, self-contained, and made from the params' cells alone."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline.reporting import findings as engine
from pipeline.reporting import table, tradeoff
from pipeline.reporting.findings import Finding, _told, levels
from pipeline.reporting.table import Figure, Row, columns_of
from pipeline.reporting.tradeoff import averaged, crossed, frontier
from pipeline.scoring.metrics import DETECTED
from pipeline.scoring.mistakes import mistakes
from scenegen.params import SENSORS as MODALITIES
from studies.shapes3d import paper
from studies.shapes3d.paper import letters
from tests.conftest import run

METRICS = paper.KEYS
COLUMNS = columns_of(letters(MODALITIES))
TABLES = [f"{name}.{kind}" for name in ("table3", "faults") for kind in ("csv", "md", "json")]
WRITTEN = (*TABLES, "report.html", "overview.png")


def cells(project: Path) -> dict[str, dict[str, Any]]:
    """The cells that params.yaml of a project asks for."""
    found: dict[str, dict[str, Any]] = YAML(typ="safe").load((project / "params.yaml").read_text())[
        "grid"
    ]["cells"]
    return found


@pytest.fixture
def project(smoke: Path, tmp_path: Path) -> Path:
    """A copy of the finished smoke run, without git and DVC's cache, that a test may change."""
    ignore = shutil.ignore_patterns(".git", ".dvc", ".cache", ".venv")
    return Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True, ignore=ignore))


def test_the_table_has_every_column_and_one_row_per_cell(smoke: Path) -> None:
    with open(smoke / "results/table3.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [(cell["fusion"], cell["objective"]) for cell in cells(smoke).values()]
    assert list(rows[0]) == table.keys(COLUMNS)
    assert [(row["fusion"], row["objective"]) for row in rows] == wanted
    summary = json.loads((smoke / "results/table3.json").read_text())
    assert [row["cell"] for row in summary["rows"]] == list(cells(smoke))
    assert {"unimodal", "detectors"} <= set(summary)


def test_the_page_holds_everything_it_shows(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()
    assert not re.search(r"https?://", page)
    assert not re.search(
        r"<link(?! rel=\"icon\" href=\"data:,\")|<script src|@import|<iframe", page
    )
    resources = re.findall(r"url\(([^)]*)\)|<img[^>]* src=\"([^\"]*)\"", page)
    assert resources
    for uri in (a or b for a, b in resources):
        kind, _, content = uri.partition(",")
        assert kind == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(content))).load()
    assert len(page.encode()) < 8e6
    for link in re.findall(r' href="([^"#]+)"', page.replace('href="data:,"', "")):
        assert (smoke / "results" / link).resolve().is_file(), link


def test_the_page_names_every_cell_in_every_part(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()
    for cell in cells(smoke):
        for part in (
            "table",
            "viewer",
            "pictures",
            "subsets",
            "faults",
            "failures",
            "curves",
            "cost",
        ):
            section = page.split(f'<section id="{part}"')[1].split("</section>")[0]
            assert cell in section, f"{cell} is not in #{part}"
    viewer = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert set(viewer["methods"]) == set(cells(smoke))


def test_the_page_shows_what_a_figure_cost_and_how_sure_it_is(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()
    table = page.split('<table id="main-table"')[1].split("</table>")[0]
    for row in json.loads((smoke / "results/table3.json").read_text())["rows"]:
        shown = table.split(f'<th scope="row">{row["cell"]}')[1].split("</tr>")[0]
        assert f"{row['encodes']:g} + {row['decodes']:g}" in shown
        assert f"{row['cross_image_lo']:.2f} to {row['cross_image_hi']:.2f}" in shown
    assert "one component drawn per scene" in page


def test_ceilings_stand_beside_the_vaes_of_one_sensor(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()
    table = page.split('<table id="ceilings"')[1].split("</table>")[0]
    told = json.loads((smoke / "results/table3.json").read_text())["unimodal"]
    for modality, row in told.items():
        scored = json.loads((smoke / f"results/scores/{modality}-0.json").read_text())
        assert row["ceiling"] == pytest.approx(scored["ceiling"][modality]["map50"], abs=1e-5)
        assert 0 < row["ceiling_lo"] < row["ceiling"] < row["ceiling_hi"]
        shown = table.split(f'<th scope="row">{modality}')[1].split("</tr>")[0]
        alone, theirs, ceiling, *_ = re.findall(r"<td[^>]*>(.*?)</td>", shown, re.DOTALL)
        figures = (row["mean"], row["paper"], row["ceiling"])
        assert all(map(_shows, (alone, theirs, ceiling), figures))
        assert f"{row['ceiling_lo']:.2f} to {row['ceiling_hi']:.2f}" in ceiling
        assert f"{modality} {row['ceiling']:.2f}" in (smoke / "results/table3.md").read_text()


def test_synergy_is_shown_by_every_figure(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()
    table = page.split('<table id="gains"')[1].split("</table>")[0]
    told = json.loads((smoke / "results/table3.json").read_text())["gains"]
    assert [row["cell"] for row in told] == list(cells(smoke))
    for row in told:
        together = json.loads((smoke / f"results/scores/{row['cell']}-0.json").read_text())
        shown = table.split(f'<th scope="row">{row["cell"]}')[1].split("</tr>")[0]
        cells_of = iter(re.findall(r"<td[^>]*>(.*?)</td>", shown, re.DOTALL))
        for metric in [key for key in DETECTED if key != "map50"]:
            for m in MODALITIES:
                alone = json.loads((smoke / f"results/scores/{m}-0.json").read_text())
                found = row["metrics"][metric][m]
                both = [score["synergy"][m][metric] for score in (together, alone)]
                if None in both:  # of no colours, or of no sure detection
                    assert found["gain"] is None
                    assert next(cells_of) == "–"
                    continue
                gain = both[0] - both[1]
                assert found["gain"] == pytest.approx(gain, abs=2e-5)
                assert found["lo"] <= found["gain"] <= found["hi"]
                assert _shows(next(cells_of), found["gain"])
        assert next(cells_of, None) is None


def test_faults_show_what_a_method_cost(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()
    table = page.split('<section id="faults"')[1].split("</table>")[0]
    with open(smoke / "results/faults.csv", newline="") as file:
        costs = {row["cell"]: row for row in csv.DictReader(file)}
    for cell in cells(smoke):
        cost = json.loads((smoke / f"results/scores/{cell}-0.json").read_text())["cost"]
        assert {name: float(costs[cell][name]) for name in cost} == pytest.approx(cost)
        assert f">{cell}" in table
        passes = f"{cost['encodes']:g} + {cost['decodes']:g}"
        assert passes in table.split(f">{cell}")[1].split("</th>")[0]
        assert (
            f"| {passes} | {cost['parameters'] / 1e6:.1f} |"
            in (smoke / "results/faults.md").read_text()
        )


def test_another_machines_seconds_change_the_page_alone(project: Path) -> None:
    """What git keeps differs where figures do: seconds stand in files of their own."""
    runs = [f"{name}-0" for name in (*cells(project), *MODALITIES)]
    kept = [project / f"results/{kind}/{run}.json" for kind in ("models", "scores") for run in runs]
    kept += [project / f"results/detectors/{modality}.json" for modality in MODALITIES]
    assert not [file for file in kept if "seconds" in file.read_text()]
    names = [f"{table}.{end}" for table in ("table3", "faults") for end in ("csv", "json", "md")]
    before = {name: (project / "results" / name).read_bytes() for name in names}
    for file in project.glob("results/times/*.json"):
        file.write_text(json.dumps({"steps": 40, "train_seconds": 98765.4}))
    run(project, "python", "-m", "pipeline.stages.report")
    assert {name: (project / "results" / name).read_bytes() for name in names} == before
    page = (project / "results/report.html").read_text()
    assert page.count("98,765") >= 2 * len(cells(project))


def test_joint_agreement_stands_beside_that_by_chance(project: Path) -> None:
    file = project / "results/scores/poe-ecg-0.json"
    told = json.loads(file.read_text())
    agreed = {"map50": 0.61, "map50_95": 0.32, "map50_chance": 0.07, "objects": 1.4, "ci": {}}
    told["joint"] = {"image-depth": agreed}
    file.write_text(json.dumps(told))
    run(project, "python", "-m", "pipeline.stages.report")
    page = (project / "results/report.html").read_text()
    table = page.split('<section id="cost"')[1].split("</table>")[0]
    heads = re.findall(r"<th scope=\"col\">(.*?)</th>", table)
    shown = table.split('<th scope="row">poe-ecg')[1].split("</tr>")[0]
    cells_of = re.findall(r"<td[^>]*>(.*?)</td>", shown, re.DOTALL)
    by_head = dict(zip(heads[1:], cells_of, strict=True))
    assert (by_head["joint: mAP@0.5"], by_head["by chance"]) == ("0.61", "0.07")
    assert (by_head["mAP@0.5:0.95"], by_head["objects"]) == ("0.32", "1.40")


def test_the_table_stands_beside_the_papers_with_differences(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()
    table = page.split('<table id="main-table"')[1].split("</table>")[0]
    told = json.loads((smoke / "results/table3.json").read_text())["rows"]
    compared = 0
    for row in told:
        shown = table.split(f'<th scope="row">{row["cell"]}')[1].split("</tr>")[0]
        cells_of = iter(re.findall(r"<td[^>]*>(.*?)</td>", shown, re.DOTALL))
        for metric in (column.key for column in COLUMNS if column.printed):
            assert _shows(next(cells_of), row[metric])
            if metric in paper.KEYS:
                theirs, difference = next(cells_of).split("<span")
                assert _shows(theirs, row[f"{metric}_paper"])
                if row[f"{metric}_diff"] is not None:
                    assert _shows(difference.split(">", 1)[1], row[f"{metric}_diff"])
                    compared += 1
        assert next(cells_of, None) is None
    assert compared >= 2 * len(told)  # both directions of every row; gains may be undefined


def _shows(cell: str, value: float | None) -> bool:
    """Whether a cell begins with this figure, rounded to as many places as it shows."""
    found = re.match(r"[+-]?[\d.]+", html.unescape(cell).replace("−", "-"))
    if value is None or not found:
        return value is None and not found
    places = len(found[0].partition(".")[2])
    return bool(abs(float(found[0]) - value) <= 0.5001 * 10**-places)


def test_every_subset_of_every_method_is_in_its_heat_map(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()
    for cell in cells(smoke):
        heat = page.split(f"<caption>{cell}</caption>")[1].split("</tbody>")[0]
        told = json.loads((smoke / f"results/scores/{cell}-0.json").read_text())["subsets"]
        rows = re.findall(r'<th scope="row">([^<]*)</th>(.*?)</tr>', heat)
        assert [subset for subset, _ in rows] == list(told)
        for subset, row in rows:
            values = re.findall(r"data-map50=\"([^\"]*)\"", row)
            assert values == [f"{told[subset][m]['map50']:.2f}" for m in MODALITIES]


def test_charts_have_a_line_or_a_mark_for_every_method(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()

    def charts(part: str) -> list[str]:
        section = page.split(f'<section id="{part}"')[1].split("</section>")[0]
        return re.findall(r'<svg class="chart".*?</svg>(?=</figure>)', section, re.DOTALL)

    kinds = YAML(typ="safe").load((smoke / "params.yaml").read_text())["score"]["faults"]["kinds"]
    assert len(charts("faults")) == 9 * len(kinds)  # faulty sensor by generated modality
    for chart in charts("faults"):
        assert chart.count('class="line"') == len(cells(smoke))
    loss = charts("curves")[0]
    assert loss.count('class="line"') == len(cells(smoke))
    # Forty steps' worth of unimodal VAEs score 0, over which no gain is defined; the paper has its.
    marks = charts("trade")[-1].count('class="mark"')
    assert marks == sum(
        all(row[f"{metric}_paper"] is not None for metric in paper.KEYS)
        for row in json.loads((smoke / "results/table3.json").read_text())["rows"]
    )
    assert marks > 0


def test_the_prior_in_place_of_a_missing_sensor_is_shown(project: Path) -> None:
    file = project / "results/scores/poe-ecg-0.json"
    told = json.loads(file.read_text())
    told["subsets_missing_as_prior"] = {"image+depth": told["subsets"]["image+depth"]}
    file.write_text(json.dumps(told))
    assert "image+depth + prior" not in (project / "results/report.html").read_text()
    run(project, "python", "-m", "pipeline.stages.report")
    assert "image+depth + prior" in (project / "results/report.html").read_text()


def test_figures_of_other_resamples_are_refused(project: Path) -> None:
    np.savez(project / "data/bootstrap/poe-ecg-0.npz", **{"image/image": np.zeros(7)})
    done = run(project, "python", "-m", "pipeline.stages.report", check=False)
    assert done.returncode == 2
    assert (
        done.stderr == "data/bootstrap/poe-ecg-0.npz: other resamples than its peers; `dvc repro`\n"
    )


def without_an_object_on_radar(project: Path) -> None:
    """As if no radar box were in any test scene: none of its mAPs is defined, its pixels are."""
    spoilt = re.compile(r".*/radar(/map50_95|/map50_agnostic)?$")
    for file in [*project.glob("data/bootstrap/*.npz"), *project.glob("data/faults/*.npz")]:
        with np.load(file) as arrays:
            kept = {k: v * np.nan if spoilt.match(k) else v for k, v in arrays.items()}
        np.savez(file, **kept)
    for file in project.glob("results/scores/*.json"):
        score = json.loads(file.read_text())
        for part in (*score["subsets"].values(), score["synergy"], score["ceiling"] or {}):
            if "radar" in part:
                part["radar"] |= dict.fromkeys(("map50", "map50_95", "map50_agnostic")) | {"ci": {}}
        file.write_text(json.dumps(score))


def test_a_sensor_that_has_no_map_spoils_nothing_else(project: Path) -> None:
    """Its figures are dashes, means are over the others and say so, and the files are JSON."""
    before = json.loads((project / "results/table3.json").read_text())["rows"]
    without_an_object_on_radar(project)
    run(project, "python", "-m", "pipeline.stages.report")
    results = project / "results"

    def told(name: str) -> Any:
        return json.loads((results / name).read_text(), parse_constant=pytest.fail)

    after = told("table3.json")["rows"]
    for old, new in zip(before, after, strict=True):
        assert new["cross_image"] == pytest.approx(old["cross_image"], abs=1e-6)
        assert new["cross_radar"] is None
    assert all(row["faulty"] is not None for row in told("faults.json")["rows"])
    table = (results / "table3.md").read_text()
    assert all(line.split(" | ")[4] == "–" for line in table.splitlines()[2 : 2 + len(after)])
    assert "radar –." in table
    assert "mean of 2 of 3 sensors (image, depth)" in (results / "faults.md").read_text()
    page = (results / "report.html").read_text()
    assert page.count("of 2 of 3 sensors (image, depth)") == 3  # recipe, frontier and faults
    words = re.sub(r"<script>.*|base64,[\w+/=]+", "", page, flags=re.DOTALL)
    assert not re.search(r"\b(nan|None|NaN)\b", words)


def test_the_report_tells_which_method_finds_the_liar(smoke: Path) -> None:
    asked = YAML(typ="safe").load((smoke / "params.yaml").read_text())
    faults, methods = asked["score"]["faults"], list(asked["grid"]["cells"])
    rows = json.loads((smoke / "results/faults.json").read_text())["detection"]
    assert len(rows) == len(methods) * len(faults["severities"]) * (1 + len(faults["kinds"]))
    for row in rows:
        if row["kind"] == "frozen":  # of a few scenes it may have frozen none
            continue
        for key in ("auroc", "found-0.01", "found-0.05", "named-0.01", "misled-0.01"):
            assert 0 <= row[key] <= 1, (row["cell"], key)
        assert row["named-0.01"] <= row["found-0.01"] <= row["found-0.05"]
        assert row["lost"] == pytest.approx(row["clean"] - clean_again(smoke, row["cell"]))
    page = (smoke / "results/report.html").read_text()
    table = page.split('<table id="told">')[1].split("</table>")[0]
    assert table.count("<tr><th scope") == 1 + len(methods) * len(faults["severities"])
    assert "Which sensor lies? AUROC" in (smoke / "results/faults.md").read_text()
    with open(smoke / "results/faults.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] != "frozen"]
    assert rows
    assert all(row["auto"] != "" and row["auroc"] != "" for row in rows)


def clean_again(smoke: Path, cell: str) -> float:
    """What automatic rejection makes of clean scenes, from the scores' own file."""
    with np.load(smoke / f"data/faults/{cell}-0.npz") as arrays:
        return float(np.mean([arrays[f"auto-clean/{m}"][0] for m in MODALITIES]))


def test_scores_of_before_leave_that_table_out(project: Path) -> None:
    for file in project.glob("data/faults/*.npz"):
        with np.load(file) as arrays:
            old = {k: v for k, v in arrays.items() if not k.startswith(("auto-", "detect-"))}
        np.savez(file, **old)
    run(project, "python", "-m", "pipeline.stages.report")
    assert json.loads((project / "results/faults.json").read_text())["detection"] == []
    assert 'id="told"' not in (project / "results/report.html").read_text()
    assert "Which sensor lies?" not in (project / "results/faults.md").read_text()


def test_the_overview_is_a_picture(smoke: Path) -> None:
    picture = Image.open(smoke / "results/overview.png")
    assert min(picture.size) > 300
    assert len(np.unique(np.asarray(picture))) > 50


def test_a_score_that_no_cell_asks_for_changes_nothing(project: Path) -> None:
    before = {name: (project / "results" / name).read_bytes() for name in WRITTEN}
    scores = project / "results/scores"
    shutil.copy(next(scores.glob("*-*-*.json")), scores / "foreign-none-0.json")
    for folder in ("bootstrap", "faults", "samples"):
        (project / f"data/{folder}/foreign-none-0.npz").write_bytes(b"left over")
    run(project, "python", "-m", "pipeline.stages.report")
    assert {name: (project / "results" / name).read_bytes() for name in WRITTEN} == before


@pytest.mark.parametrize(
    "folder", ["results/scores", "data/samples", "data/bootstrap", "data/faults"]
)
def test_a_missing_input_is_one_line(project: Path, folder: str) -> None:
    gone = next((project / folder).glob(f"{next(iter(cells(project)))}-*"))
    gone.unlink()
    done = run(project, "python", "-m", "pipeline.stages.report", check=False)
    assert done.returncode != 0
    assert done.stderr.strip().count("\n") == 0
    assert str(gone.relative_to(project)) in done.stderr


def rows_like_the_paper(sign: float, **changed: float | None) -> list[Row]:
    """A run whose figures are the paper's own, or their opposites; `changed` is every row's."""

    def shown(metric: str, value: float) -> float:
        return 1 - value if sign < 0 and metric.startswith("cross") else sign * value

    return [
        Row(
            f"{fusion}-{objective}",
            fusion,
            objective,
            {m: Figure(changed.get(m, shown(m, value)), paper=value) for m, value in own.items()},
            MODALITIES,
        )
        for (fusion, objective), own in paper.TABLE.items()
    ]


def findings(rows: list[Row], columns: tuple[table.Column, ...] = COLUMNS) -> list[Finding]:
    """The verdicts on what the paper concludes."""
    return engine.findings(rows, paper.claims(columns))


def recipe(rows: list[Row]) -> str | None:
    """The method that is as good at both ends for less."""
    return tradeoff.recipe(rows, paper.ENDS)


@pytest.mark.parametrize(("sign", "verdict"), [(1.0, "agrees"), (-1.0, "disagrees")])
def test_the_words_follow_the_numbers(sign: float, verdict: str) -> None:
    assert {found for _, found, _ in findings(rows_like_the_paper(sign))} == {verdict}


def test_what_may_be_chance_is_said_to_be_unsure() -> None:
    draws = np.random.default_rng(0)
    rows = [  # so uncertain that no difference of two methods can be told from none
        replace(
            row,
            figures={
                m: replace(f, resamples=f.value + np.append(0, draws.normal(0, 99, 1000)))
                for m, f in row.figures.items()
            },
        )
        for row in rows_like_the_paper(1.0)
    ]
    assert {found for _, found, _ in findings(rows)} == {"unsure"}


def test_a_direction_fails_only_far_below_the_best() -> None:
    rows = [
        replace(row, figures={**row.figures, "cross_depth": Figure(0.6)})  # two thirds of the best
        if row.objective == "none" and row.fusion in ("poe", "bce", "rbcm")
        else row
        for row in rows_like_the_paper(1.0)
    ]
    verdicts = {text: found for text, found, _ in findings(rows)}
    assert (
        verdicts["Without cross generation, the depth from the other sensors (I+R→D) fails."]
        == "disagrees"
    )


def test_a_claim_of_a_run_with_a_fourth_sensor_names_all_others() -> None:
    four = (*MODALITIES, "normals")
    claims = [text for text, *_ in findings(rows_like_the_paper(1.0), columns_of(letters(four)))]
    assert "Without cross generation, the depth from the other sensors (I+R+N→D) fails." in claims
    assert not any("I+R→D" in text for text in claims)


def test_a_cell_of_fewer_sensors_decides_no_claim_of_the_papers() -> None:
    """Its image is from the radar alone: the paper says nothing of it."""
    rows = rows_like_the_paper(1.0)
    narrow = replace(rows[-1], cell="narrow", sensors=("image", "radar"))
    narrow = replace(narrow, figures=dict.fromkeys(paper.KEYS, Figure(-99.0)))
    assert findings([*rows, narrow]) == findings(rows)
    assert findings([*rows, replace(narrow, sensors=MODALITIES)]) != findings(rows)


def test_a_column_without_figures_is_untested() -> None:
    rows = rows_like_the_paper(1.0, cross_depth=None)
    verdicts = {found for text, found, _ in findings(rows) if "I+R→D" in text}
    assert verdicts == {"untested"}


@pytest.mark.parametrize(("rbcm", "pairs"), [(0.75, 0), (0.76, 1)])
def test_pairs_are_counted_in_the_decimals_that_the_paper_prints(rbcm: float, pairs: int) -> None:
    """0.75 and 0.70 differ by 0.05 and no more, whatever floating point says."""
    rows = [
        Row(f"{fusion}-none", fusion, "none", {"cross_image": Figure(value, paper=value)})
        for fusion, value in (("rbcm", rbcm), ("poe", 0.70))
    ]
    (told,) = levels(rows, COLUMNS)
    assert ("Of 1 pairs" in told) == bool(pairs)


def test_the_papers_own_table_has_so_many_pairs() -> None:
    """Counted by hand in hundredths."""
    paper_columns = [column for column in COLUMNS if column.key in METRICS]
    told = levels(rows_like_the_paper(1.0), paper_columns)
    counted = [re.search(r"Of (\d+) pairs", text) for text in told]
    hundredths = [
        [round(100 * paper.TABLE[cell][metric]) for cell in paper.TABLE] for metric in METRICS
    ]
    least = (5, 5, 500, 500)
    assert [int(found[1]) for found in counted if found] == [
        sum(a - b > by for a in column for b in column)
        for column, by in zip(hundredths, least, strict=True)
    ]


def row_of(cell: str, gain: float, cross: float, passes: int) -> Row:
    """A row whose resamples scatter by 0.01."""
    draws = np.random.default_rng(len(cell))
    kinds = {"gain": gain, "cross": cross}
    figures = {
        f"{kind}_{m}": Figure(value, resamples=value + np.append(0, draws.normal(0, 0.01, 1000)))
        for kind, value in kinds.items()
        for m in MODALITIES
    }
    fusion, objective = cell.split("-")[:2]
    return Row(cell, fusion, objective, figures, cost={"encodes": 3, "decodes": passes - 3})


def without_figures(rows: list[Row], *keys: str) -> list[Row]:
    """The rows, of which these figures are undefined."""
    nothing = Figure(None, resamples=np.full(1001, np.nan))
    return [replace(row, figures={**row.figures, **dict.fromkeys(keys, nothing)}) for row in rows]


@pytest.mark.parametrize(
    ("cross", "passes", "said"),
    [
        (0.90, 6, "For at most 12 passes, twice those of a single ELBO, poe-new: as good as"),
        (0.70, 6, "none of 3 cells is at once as good"),
        (0.90, 13, "none of 2 cells is at once as good"),
    ],
)
def test_the_recipe_is_cheap_and_good_at_both(cross: float, passes: int, said: str) -> None:
    rows = [
        row_of("poe-none", 0.10, 0.10, 6),
        row_of("moe-none", -0.20, 0.60, 12),
        row_of("poe-ecg", 0.05, 0.90, 24),
        row_of("poe-new", 0.10, cross, passes),
    ]
    told = recipe(rows)
    assert told is not None
    assert said in told
    if cross == 0.70:
        assert "the nearest is poe-new" in told
        assert "cross generation −0.20 [" in told
    assert recipe(rows[:2]) is None


def test_a_sensor_without_figures_is_left_out_of_the_means_and_they_say_so() -> None:
    rows = [
        row_of("poe-none", 0.10, 0.10, 6),
        row_of("poe-ecg", 0.05, 0.90, 24),
        row_of("poe-new", 0.10, 0.90, 6),
    ]
    assert averaged(rows) == "over image, depth, radar"
    whole = recipe(rows), crossed(rows)
    rows = without_figures(rows, "gain_radar", "cross_radar")
    told = recipe(rows)
    assert told is not None
    assert "poe-new: as good as" in told
    assert told.endswith("(means of 2 of 3 sensors (image, depth)).")
    assert [row["cell"] for row in frontier(rows)] == ["poe-new"]
    assert crossed(rows)["cross"]["poe"] == pytest.approx(whole[1]["cross"]["poe"], abs=0.02)
    rows = without_figures(rows, *rows[0].figures)
    assert (recipe(rows), frontier(rows)) == (None, [])
    assert crossed(rows) == {"synergy": {}, "cross": {}}
    assert averaged(rows) == "of 0 of 3 sensors (none has a figure)"


def test_cells_of_different_sensors_are_compared_on_those_that_all_have() -> None:
    """The cell of two has no depth; where it has figures it is the better one, for fewer passes."""

    def narrow(row: Row, gone: str) -> Row:
        return replace(row, figures={k: f for k, f in row.figures.items() if gone not in k})

    whole, pair = row_of("poe-ecg", 0.1, 0.9, 24), narrow(row_of("poe-none", 0.1, 0.8, 4), "depth")
    nothing = Figure(0.0, resamples=np.zeros(1001))
    whole = replace(whole, figures={**whole.figures, "cross_depth": nothing})
    assert averaged([whole, pair]) == averaged([pair, whole]) == "over image, radar"
    (cheap, dear) = frontier([whole, pair])
    assert (cheap["cell"], cheap["cross"]) == ("poe-none", pytest.approx(0.8))
    assert (dear["cell"], dear["cross"]) == ("poe-ecg", pytest.approx(0.9))  # without its depth
    told = recipe([whole, pair])
    assert told is not None
    assert "For at most 12 passes" in told  # twice those of all three sensors
    apart = [narrow(narrow(whole, "image"), "radar"), pair]
    assert (recipe(apart), frontier(apart)) == (None, [])
    assert averaged(apart) == "over no sensor, as none is in every cell"


def test_a_recipe_is_cheap_by_one_elbo_and_not_by_the_cheapest_cell() -> None:
    rows = [row_of("moe-none", 0.10, 0.90, 12), row_of("poe-ecg", 0.10, 0.90, 24)]
    told = recipe(rows)
    assert told is not None
    assert "at most 12 passes, twice those of a single ELBO, moe-none: as good as" in told
    rows[0] = replace(rows[0], cost={"encodes": 3, "decodes": 10})
    assert recipe(rows) == "No cell costs at most 12 passes, twice those of a single ELBO."


def test_the_frontier_is_what_nothing_as_cheap_beats() -> None:
    rows = [
        row_of("poe-ecg", 0.05, 0.90, 24),  # the best at crossing
        row_of("bce-ecg", 0.04, 0.90, 24),  # as good there, less synergy
        row_of("poe-none", 0.10, 0.10, 6),  # the cheapest
        row_of("rce-none", -0.10, 0.50, 6),  # as cheap, and better at crossing
        row_of("poe-lcd", -0.20, 0.40, 6),  # behind rce at both
        row_of("moe-none", 0.00, 0.40, 12),  # more synergy than rce, more crossing than poe
        row_of("poe-rmd", 0.04, 0.91, 36),  # dearer, better at one
        row_of("bce-rmd", 0.04, 0.89, 36),  # dearer, better at none
    ]
    found = frontier(rows)
    assert [row["cell"] for row in found] == [
        "poe-none",
        "rce-none",
        "moe-none",
        "poe-ecg",
        "poe-rmd",
    ]
    assert [row["passes"] for row in found] == [6, 6, 12, 24, 36]
    first = found[0]
    assert (first["synergy"], first["cross"]) == (pytest.approx(0.1), pytest.approx(0.1))
    assert 0.08 < first["synergy_lo"] < 0.1 < first["synergy_hi"] < 0.12
    assert 0.08 < first["cross_lo"] < 0.1 < first["cross_hi"] < 0.12


def test_the_frontier_is_in_the_report_and_beside_the_table(smoke: Path) -> None:
    page = (smoke / "results/report.html").read_text()
    table = page.split('<table id="frontier"')[1].split("</table>")[0]
    told = json.loads((smoke / "results/table3.json").read_text())
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == [r["cell"] for r in told["frontier"]]
    for row in told["frontier"]:
        shown = table.split(f'<th scope="row">{row["cell"]}')[1].split("</tr>")[0]
        passes, synergy, cross = re.findall(r"<td[^>]*>(.*?)</td>", shown, re.DOTALL)
        figures = (row["passes"], row["synergy"], row["cross"])
        assert all(map(_shows, (passes, synergy, cross), figures))
    assert told["recipe"] in html.unescape(page)


def test_fusions_are_crossed_with_objectives(smoke: Path) -> None:
    """A table for each of the frontier's two means; a pair without a cell is a dash."""
    rows = [row_of("poe-ecg", 0.1, 0.8, 24), row_of("poe-none", 0.2, 0.1, 6)]
    better = row_of("poe-none-wide", 0.1, 0.2, 6)  # differs in an option alone
    found = crossed([*rows, better, row_of("moe-none", 0.0, 0.5, 12)])
    assert found == {
        "synergy": {
            "poe": pytest.approx({"ecg": 0.1, "none": 0.2}),
            "moe": pytest.approx({"none": 0.0}),
        },
        "cross": {
            "poe": pytest.approx({"ecg": 0.8, "none": 0.2}),
            "moe": pytest.approx({"none": 0.5}),
        },
    }
    page = (smoke / "results/report.html").read_text()
    asked = {(cell["fusion"], cell["objective"]) for cell in cells(smoke).values()}
    told = json.loads((smoke / "results/table3.json").read_text())["frontier"]
    for name in ("cross", "synergy"):
        table = page.split(f'<table class="heat" id="crossed-{name}"')[1].split("</table>")[0]
        objectives = re.findall(r'<th scope="col">(.*?)</th>', table)[1:]
        shown = {
            (fusion, objective): value
            for fusion, row in re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table)
            for objective, value in zip(
                objectives, re.findall(r"<td[^>]*>(.*?)</td>", row), strict=True
            )
        }
        assert {pair for pair, value in shown.items() if value != "–"} == asked
        for row in told:
            cell = cells(smoke)[row["cell"]]
            assert _shows(shown[cell["fusion"], cell["objective"]], row[name])


def test_a_claim_that_the_cells_cannot_tell_is_said_to_be_untested() -> None:
    only = [row for row in rows_like_the_paper(1.0) if row.cell == "moe-none"]
    assert {found for _, found, _ in findings(only)} == {"untested"}


def test_a_gain_that_some_resamples_do_not_define_tells_nothing() -> None:
    """A sensor's own VAE finds nothing in one of them: no interval, hence no certainty."""
    figures = np.linspace(1.0, 2.0, 101)
    row = Row("a", "poe", "none", {"gain": Figure(1.0, resamples=figures)})
    assert _told(row, "gain")
    figures[50] = np.nan
    assert not _told(row, "gain")


BOX = [10.0, 10.0, 20.0, 20.0]


@pytest.mark.parametrize(
    ("found", "truth", "missed", "false"),
    [
        ([], [[*BOX, 1]], 1, 0),
        ([[*BOX, 1]], [[*BOX, 1]], 0, 0),
        ([[*BOX, 2]], [[*BOX, 1]], 1, 1),
        ([[*BOX, 1], [*BOX, 1]], [[*BOX, 1]], 0, 1),
        ([[10, 10, 20, 15, 1]], [[*BOX, 1]], 0, 0),
        ([[10, 10, 20, 14.9, 1]], [[*BOX, 1]], 1, 1),
        ([[*BOX, 1]], [], 0, 1),
    ],
)
def test_mistakes(
    found: list[list[float]], truth: list[list[float]], missed: int, false: int
) -> None:
    boxes = [np.array(b, np.float32).reshape(-1, 5) for b in (found, truth)]
    assert mistakes(boxes[0], boxes[1]) == (missed, false)


PROBE = Path(__file__).with_name("probe.js")


def browse(page: Path, profile: Path, *, width: int, dark: bool) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what the browser's console said."""
    if width < 500:  # no window is narrower: a frame is
        frame = page.with_name("frame.html")
        frame.write_text(f'<iframe src="{page.name}" width="{width}" height="900"></iframe>')
        page = frame
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-sync dump-dom"
    command = ["chromium", *(f"--{flag}" for flag in flags.split()), "--window-size=1280,900"]
    command += ["--disable-background-networking", "--disable-component-update"]
    command += ["--allow-file-access-from-files", "--enable-logging=stderr", "--v=0"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command += [f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def shown_picture(css: str, tile: list[str]) -> np.ndarray:
    """The part of its sheet that a tile shows, from what the browser computed."""
    end, position, size = tile
    [uri] = [u for u in re.findall(r"url\(([^)]*)\)", css) if u.endswith(end.rstrip('")'))]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    (x, y), (columns, rows) = (
        [float(v.removesuffix("%")) / 100 for v in pair.split()] for pair in (position, size)
    )
    height, width = round(sheet.shape[0] / rows), round(sheet.shape[1] / columns)
    top, left = round(y * (rows - 1)) * height, round(x * (columns - 1)) * width
    return sheet[top : top + height, left : left + width]


needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs Debian's chromium"
)


@needs_chromium
@pytest.mark.parametrize(
    "script", ["console.error('spoilt')", "throw new Error('spoilt')", "spoilt()"]
)
def test_what_is_wrong_in_a_page_is_heard(script: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<!doctype html><script>{script}</script>")
    _, said = browse(tmp_path / "page.html", tmp_path / "profile", width=1280, dark=False)
    assert len(said) == 1
    assert "spoilt" in said[0]


@needs_chromium
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (375, False), (375, True)]
)
def test_the_page_in_a_browser(smoke: Path, tmp_path: Path, width: int, dark: bool) -> None:
    page = (smoke / "results/report.html").read_text()
    probed = tmp_path / "probed.html"
    probed.write_text(page.replace("</body>", f"<script>{PROBE.read_text()}</script></body>"))
    document, said = browse(probed, tmp_path / "profile", width=width, dark=dark)
    assert said == []
    found = re.search(r'data-probe="([^"]*)"', document)
    assert found
    probe = json.loads(html.unescape(found[1]))
    assert probe["width"] == pytest.approx(width, abs=20)
    assert probe["wide"] <= 0
    assert probe["dark"] == dark
    assert (probe["page"] < 0.05) == dark
    assert probe["least"][0] >= 4.5, probe["least"]  # WCAG AA of every text
    assert probe["charts"] == [[m] * 3 for m in ("image", "depth", "radar")]
    kinds = YAML(typ="safe").load((smoke / "params.yaml").read_text())["score"]["faults"]["kinds"]
    assert probe["kinds"] == [[kind, kind] for kind in kinds]
    shown, hidden, again = probe["boxes"]
    assert shown == again > 0
    assert hidden == 0
    first = next(iter(cells(smoke)))
    told = json.loads((smoke / f"results/scores/{first}-0.json").read_text())["subsets"]["image"]
    for shown_as, key in zip(probe["metrics"], DETECTED, strict=True):
        value = told["image"][key]  # None where it is not defined
        if value is None:
            assert shown_as == "–", key
        else:
            assert float(shown_as) == pytest.approx(value, abs=0.0051), key
    sheets = set(re.findall(r"background-image: url\(([^)]*)\)", page))
    assert len(probe["pictures"]) == len(sheets) > 0
    assert min(probe["pictures"]) > 0
    assert probe["both"]
    assert probe["alone"]
    assert sorted(cell for cell, *_ in probe["beside"]) == sorted(cells(smoke))
    for off, looks in enumerate(probe["dimmed"]):
        assert looks == [0.15 if place == off else 1 for place in range(len(MODALITIES))]
    for cell, on, scene, tiles, text in probe["seen"] + probe["beside"]:
        with np.load(smoke / f"data/samples/{cell}-0.npz") as file:
            expected = {m: file[f"{on}/{m}"][scene] for m in MODALITIES if f"{on}/{m}" in file}
        assert len(tiles) == len(expected), (cell, on)
        for tile, picture in zip(tiles, expected.values(), strict=True):
            assert np.array_equal(shown_picture(page, tile), picture.squeeze())
        assert ("did not score" in text) == (bool(on) and not expected)
