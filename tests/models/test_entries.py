"""What fusions and objectives declare of themselves is what they do, and what the docs say."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from models import entries, fusions, objectives, params
from models.mixture import Draws
from models.params import Cell, check_cell, fusion_names, objective_names
from models.plan import Layout, Plan, constant, subsets
from tests.conftest import ROOT
from tests.models.conftest import (
    draws,
    random_experts,
    small_batch,
    small_model,
    small_params,
    with_own,
)

NAMES = {"fusion": fusion_names(), "objective": objective_names()}
ALL = [(kind, name) for kind, names in NAMES.items() for name in names]
DECLARED = [
    (kind, name, option)
    for kind, name in ALL
    for option in entries.options(kind, name).model_fields
]


class Noted:
    """Options that note which of them are read."""

    def __init__(self, options: object) -> None:
        self.options, self.read = options, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(self.options, name)


def cells(kind: str, name: str) -> Iterator[Cell]:
    """Every cell of an entry that is not refused."""
    other = "objective" if kind == "fusion" else "fusion"
    for partner in NAMES[other]:
        with contextlib.suppress(ValidationError):
            yield Cell.model_validate({kind: name, other: partner})


def plans(name: str, every: bool, options: object = None) -> list[Plan]:
    """Some steps of an objective for three modalities with an expert each, or one a subset."""
    rows = tuple(subsets(3) if every else subsets(3)[:3])
    own = dict(entries.own("objective", name, 3).items())
    layout = Layout(constant(rows, torch.device("cpu")), 4, 2, torch.zeros(1), own)
    options = options or entries.options("objective", name)()
    return [objectives.load(name)(layout, options, draws(seed)) for seed in range(40)]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_an_entry_reads_the_options_that_it_declares_and_no_others(kind: str, name: str) -> None:
    cell = next(cells(kind, name))
    model = small_model(cell)
    noted = Noted(cell.options(kind))
    setattr(model, f"{kind}_options", noted)
    model.bound(small_batch(), draws())
    model.posterior(small_batch(), draws=draws())
    assert noted.read == set(entries.options(kind, name).model_fields)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_file_declares_nothing_that_nobody_looks_for(kind: str, name: str) -> None:
    """Such as a misspelt TRAIT."""
    module = entries.module(kind, name)
    known = {"Options", "TRAITS", "own", "refuse", entries.FUNCTIONS[kind]}
    helpers = {"committee"}  # of rbcm, which a test looks at
    assert set(module.__all__) <= known | helpers
    assert isinstance(getattr(module, "TRAITS", traits(kind, name)), type(traits(kind, name)))


def traits(kind: str, name: str) -> object:
    return fusions.traits(name) if kind == "fusion" else objectives.traits(name)


@pytest.mark.parametrize(("kind", "name", "option"), DECLARED)
def test_an_option_has_help_a_default_and_allowed_values(kind: str, name: str, option: str) -> None:
    field = entries.options(kind, name).model_fields[option]
    assert field.description
    assert not field.is_required()
    for value in (None, "x", -1, 1e10, float("nan")):
        with pytest.raises(ValidationError, match=option):
            entries.options(kind, name).model_validate({option: value})


@pytest.mark.parametrize("name", fusion_names())
def test_a_fusion_is_random_if_it_says_so(name: str) -> None:
    def fused(value: float) -> torch.Tensor:
        noise = Draws(uniforms=torch.full((4, 5), value))
        experts = with_own(name, random_experts())
        return fusions.load(name)(experts, entries.options("fusion", name)(), noise).mean

    assert torch.equal(fused(0.1), fused(0.9)) == (not fusions.traits(name).random)


@pytest.mark.parametrize("name", fusion_names())
def test_a_fusion_has_an_expert_for_each_subset_if_it_says_so(name: str) -> None:
    experts = small_model(next(cells("fusion", name))).experts
    assert len(experts) == (7 if fusions.traits(name).subset_experts else 3)


@pytest.mark.parametrize("name", objective_names())
def test_an_objective_trains_encoders_of_subsets_if_it_says_so(name: str) -> None:
    seen = set()
    for plan in plans(name, every=True):
        present = plan.present.long()  # [E, T, B]: where the last one present is what is taken
        last = (present * torch.arange(1, 8).view(-1, 1, 1)).argmax(0)
        seen |= {*last.flatten().tolist(), *plan.cross}
    trains = objectives.traits(name).trains_subsets
    assert (seen >= set(range(7))) == trains


@pytest.mark.parametrize("name", objective_names())
def test_an_objective_reverts_to_the_prior_and_has_kl_terms_if_it_says_so(name: str) -> None:
    for plan in plans(name, every=False):
        assert (plan.keep is not None) == objectives.traits(name).missing_as_prior
        own_terms = bool(plan.cross) or plan.beta != 1
        assert own_terms != objectives.traits(name).importance


@pytest.mark.parametrize("name", objective_names())
def test_an_objective_says_how_many_modalities_it_needs(name: str) -> None:
    cell, least = next(cells("objective", name)), objectives.traits(name).least_modalities
    for count in (1, 2, 3):
        names = "abc"[:count]
        if count < least:
            with pytest.raises(ValueError, match=f"needs {least} or more modalities"):
                check_cell(small_params(names), cell)
        else:
            check_cell(small_params(names), cell)
            assert (
                small_model(cell, names).bound(small_batch(names), draws()).value.isfinite().all()
            )


# --- cells -------------------------------------------------------------------------------------


def test_a_cell_has_its_own_options_at_their_defaults_in_one_order() -> None:
    one = Cell(fusion="code", objective="lcd", alpha=0.2, rho=0.1)
    other = Cell(rho=0.1, alpha=0.2, objective="lcd", fusion="code")
    assert one.model_dump_json() == other.model_dump_json()
    assert one == other
    assert list(one.model_dump())[6:] == ["prior_expert", "rho", "alpha"]
    assert one.options("fusion").model_dump() == {"prior_expert": True, "rho": 0.1}
    assert one.options("objective").model_dump() == {"alpha": 0.2}
    assert Cell() == Cell(prior_expert=True) != Cell(prior_expert=False)


def test_a_cell_of_a_file_drops_what_its_entries_do_not_declare() -> None:
    before = {"fusion": "poe", "objective": "lcd", "alpha": 0.1, "rho": 0.3, "entropy": 1000.0}
    assert Cell.saved(before) == Cell(fusion="poe", objective="lcd", alpha=0.1)


# Entries of a user, in a folder of their own that the package looks into as well.
MINE = """
from pydantic import Field
from models import params
from models.fusions import poe
class Options(params.Options):
    alpha: float = Field(default=0.25, ge=0.2, le=0.9)
    \"\"\"mine\"\"\"
def fuse(experts, options, draws):
    return poe.fuse(experts, poe.Options(), draws)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    names = params.fusion_names()
    monkeypatch.setattr(fusions, "__path__", [*fusions.__path__, str(tmp_path)])
    monkeypatch.setattr(entries, "code_of", lambda kind, name: "")
    monkeypatch.setattr(params, "fusion_names", lambda: (*names, "mine"))

    def written(text: str) -> None:
        (tmp_path / "mine.py").write_text(text)

    yield written
    sys.modules.pop("models.fusions.mine", None)
    vars(fusions).pop("mine", None)


def test_two_entries_with_an_option_of_one_name_both_read_it(write: Any) -> None:
    write(MINE)
    cell = Cell(fusion="mine", objective="lcd", alpha=0.5)
    assert cell.options("fusion").model_dump() == cell.options("objective").model_dump()
    for value in (0.1, 0.95, 2.0):  # either's range
        with pytest.raises(ValidationError, match="alpha"):
            Cell(fusion="mine", objective="lcd", alpha=value)
    assert small_model(cell).bound(small_batch(), draws()).value.isfinite().all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINE.replace("alpha:", "beta:"), "mine.py: ValueError: Options: beta is a key of every"),
        (MINE.replace("(params.Options)", ""), "mine.py: TypeError: Options must be a class that"),
        (MINE + "from models.fusions import Traits\nTRAITS = Traits(mixtur=True)\n", "'mixtur'"),
        (MINE.replace("def fuse", "def fused"), "mine.py: AttributeError: .* no attribute 'fuse'"),
        ("raise SystemExit(3)", "mine.py: SystemExit: 3"),
        (MINE + "def refuse(options, cell, modalities):\n    return 'not today'\n", "not today"),
    ],
)
def test_a_wrong_declaration_is_said_in_one_line(write: Any, text: str, said: str) -> None:
    write(text)
    with pytest.raises(ValidationError, match=said) as refused:
        Cell(fusion="mine")
    assert "\n" not in refused.value.errors()[0]["msg"]


# --- names and docs ----------------------------------------------------------------------------

ENGINE = [
    *(ROOT / "models").glob("*.py"),
    *(ROOT / "models").glob("*/__init__.py"),
    *(ROOT / "pipeline").rglob("*.py"),
    *(ROOT / "studies").rglob("*.py"),
    *(ROOT / "pipeline").rglob("*.j2"),
    *(ROOT / "studies").rglob("*.j2"),
]
DATA = ("paper.py", "claims.py")  # what the paper found, and its claims
WORDS = ("code", "none", "split")  # which are more than names of entries


@pytest.mark.parametrize("path", sorted(ENGINE), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_entry_is_named_outside_its_file(path: Path) -> None:
    names = "|".join(sorted({*fusion_names(), *objective_names()} - {*WORDS}))
    named = rf"\b({names})\b" if path.suffix == ".j2" else rf"""["']({names})["']"""
    found = set(re.findall(named, path.read_text()))
    default = {Cell.model_fields["fusion"].default} if path == ROOT / "models/params.py" else set()
    assert found == default or path.name in DATA


def default_value(field: Any) -> str:
    if isinstance(field.default, bool):
        return str(field.default).lower()
    known = {5 / 6: "5/6"}.get(field.default, field.default)
    return f"{known:g}" if isinstance(known, float) else str(known)


def test_the_table_of_options_is_what_entries_declare() -> None:
    text = (
        (ROOT / "docs/reference/models.md")
        .read_text()
        .split("## Options of a cell")[1]
        .split("\n## ")[0]
    )
    found = [
        [part.strip() for part in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    common = [key for key in Cell.model_fields if key not in NAMES]
    assert [row[0].strip("`") for row in found[: len(common)]] == common
    own: dict[str, list[tuple[str, Any]]] = {}
    for kind, name, option in DECLARED:
        field = entries.options(kind, name).model_fields[option]
        own.setdefault(option, []).append((name, field))
    assert [row[0].strip("`") for row in found[len(common) :]] == list(own)
    for option, default, allowed, read_by, what in found[len(common) :]:
        declared = own[option.strip("`")]
        assert read_by == ", ".join(f"`{name}`" for name, _ in declared)
        for _, field in declared:
            assert default == default_value(field)
            assert allowed == allowed_values(field)
            assert what == " ".join(field.description.split())


def allowed_values(field: Any) -> str:
    if field.annotation is bool:
        return "true, false"
    if field.annotation not in (int, float):
        return ", ".join(field.annotation.__args__)
    limits = {kind: value for m in field.metadata for kind, value in vars_of(m).items()}
    low = f"{limits['ge']:,}" if "ge" in limits else f"above {limits['gt']:,}"
    high = f"{limits['le']:,.0f}" if "le" in limits else f"below {limits['lt']:,}"
    return f"{low} to {high}"


def vars_of(limit: Any) -> dict[str, Any]:
    return {kind: getattr(limit, kind) for kind in ("ge", "gt", "le", "lt") if hasattr(limit, kind)}
