"""A study trained and scored where neither DVC nor Blender is, and taken over where they are.

`python -m pipeline study` leaves study.json beside the study's data: entries of a dvc.lock, which
`python -m pipeline adopt` lets DVC record elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from base.files import write_json
from base.params import Section
from pipeline.running import parallel
from pipeline.running.params import fail, read_params, shown, valid
from pipeline.running.plan import Job, due, lookup, plan, stages
from pipeline.study import Study

__all__ = ["adopt", "entry", "record_of", "train"]

Entry = dict[str, Any]


def record_of(study: Study) -> Path:
    """Where a study that ran without DVC keeps what it did."""
    return study.data / "study.json"


# --- there -------------------------------------------------------------------------------------


def train(study: Study, slots: int, seconds: float | None = None) -> None:
    """Train and score all there is, from what `check` and the data stages leave, without DVC.

    What is done is kept in the record, so that a broken or timed-out run goes on.
    """
    again = f"python -m pipeline study --study {study.name}"
    with study.running("study", lambda: "what it ran keeps its checkpoints", again):
        _train(study, slots, seconds)


def _train(study: Study, slots: int, seconds: float | None) -> None:
    check = shlex.split(stages(study)["check"]["cmd"])
    if code := subprocess.run([sys.executable, *check[1:]], check=False).returncode:
        raise SystemExit(code)
    params, jobs, record = read_params(study.params), plan(study), record_of(study)
    outs = [Path(path) for job in jobs for path in job.outs]
    made = {
        str(path) for out in outs for path in (out, *out.parents)
    }  # a folder, too, file by file
    for path in {path for job in jobs for path in job.deps} - made:
        if not Path(path).exists():
            fail(f"{path}: is not here; bring it along (docs/guide/gpu.md)")
    known = _recorded(record)
    chosen = due(jobs, lambda job: not _same(job, study, params, known.get(job.name)))

    def finished(job: Job, _: object) -> None:
        note = study.note(job.name)
        known[job.name] = entry(job, study, note["params"] if note else params)
        write_json(record, {"schema": "2.0", "stages": known})

    outcome = parallel.run(chosen, slots, finished, seconds=seconds)
    onward = f"python -m pipeline adopt --study {study.name}"
    parallel.report(outcome, f"Record: {record}; take it over with {onward}")


_DIGESTS: dict[tuple[str, int, int], str] = {}


def _md5(path: Path) -> str:
    about = path.stat()
    key = (str(path), about.st_mtime_ns, about.st_size)
    if key not in _DIGESTS:
        with path.open("rb") as file:
            _DIGESTS[key] = hashlib.file_digest(file, "md5").hexdigest()
    return _DIGESTS[key]


def _described(name: str) -> Entry:
    """A file or folder as dvc.lock describes it: what stays on this machine is known by that alone,
    and `dvc commit`, which would describe it, is not here."""
    path = Path(name)
    if not path.is_dir():
        return {"path": name, "hash": "md5", "md5": _md5(path), "size": path.stat().st_size}
    files = sorted(
        (file for file in path.rglob("*") if file.is_file()),
        key=lambda file: file.relative_to(path).parts,
    )
    listed = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return {
        "path": name,
        "hash": "md5",
        "md5": _md5_of(listed),
        "size": sum(file.stat().st_size for file in files),
        "nfiles": len(files),
    }


def _md5_of(listed: list[dict[str, str]]) -> str:
    """DVC's MD5 of a folder, of which files are listed in the order of their paths' parts."""
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def _written(entries: Iterable[Entry]) -> set[str]:
    """MD5s of all that stages wrote, and of the folders that they read and wrote together."""
    entries = list(entries)
    outs = {out["path"]: out["md5"] for known in entries for out in known["outs"]}
    read = {Path(dep["path"]) for known in entries for dep in known["deps"]}
    found = set(outs.values())
    for folder in read:
        files = [Path(path) for path in outs if folder in Path(path).parents]
        listed = [
            {"md5": outs[str(file)], "relpath": file.relative_to(folder).as_posix()}
            for file in sorted(files, key=lambda file: file.parts)
        ]
        found |= {_md5_of(listed)} if listed else set()
    return found


def entry(job: Job, study: Study, params: dict[str, Any]) -> Entry:
    """The job's entry in a dvc.lock, for the files as they are now."""
    read = {key: lookup(params, key) for key in sorted(job.params)}
    return {
        "cmd": job.command,
        "deps": [_described(path) for path in sorted(job.deps)],
        **({"params": {str(study.params): read}} if read else {}),
        "outs": [_described(path) for path in sorted(job.outs)],
    }


def _same(job: Job, study: Study, params: dict[str, Any], known: Entry | None) -> bool:
    """Whether the record is of a run of this job as it is now, with all it wrote still there."""
    missing = [path for path in (*job.deps, *job.outs) if not Path(path).exists()]
    return known is not None and not missing and entry(job, study, params) == known


# --- the record --------------------------------------------------------------------------------


class _Described(Section):
    """A file or folder of the project, as dvc.lock describes it."""

    path: str
    hash: Literal["md5"]
    md5: str = Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")
    size: int = Field(ge=0)
    nfiles: int | None = Field(default=None, ge=0)

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if path != os.path.normpath(path) or path.startswith(("/", "../")) or path in (".", ".."):
            raise ValueError("must be a path inside the project")
        return path


class _Entry(Section):
    """A stage's run, as dvc.lock describes it."""

    cmd: str
    deps: list[_Described]
    params: dict[str, dict[str, Any]] = Field(default={})
    outs: list[_Described]


class _Record(Section):
    """A study's record: a dvc.lock in JSON."""

    version: Literal["2.0"] = Field(alias="schema")
    stages: dict[str, _Entry]


def _recorded(path: Path) -> dict[str, Entry]:
    """The stages of a study's record, none without one; one line a mistake and exit code 2."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        fail(f"{path}: not the record of a study ({error}); delete it to begin anew")
    valid(_Record, content, path)
    return dict(content["stages"])


# --- here --------------------------------------------------------------------------------------


def adopt(study: Study, path: Path) -> None:
    """Let DVC record a study's stages and keep what they wrote, as if they had run here.

    Big outputs, such as the models, need not be brought along: `dvc repro --allow-missing` then
    runs what is left. A stage is refused when anything that it read differs from what is here; a
    record that is none changes nothing.
    """
    from pipeline.running import record  # the other machine has no DVC

    record.need_dvc()
    if not path.exists():
        fail(f"{path}: no such file; a study leaves it beside its data and results")
    studied = _recorded(path)
    params, jobs = read_params(study.params), {job.name: job for job in plan(study)}
    refused = {
        name: why
        for name, known in studied.items()
        if (why := _difference(jobs.get(name), known, study, params))
    }
    written = _written(studied.values())
    alike = {name: known for name, known in studied.items() if name not in refused}
    refused |= record.take_over(study, alike, written)
    for name, why in refused.items():
        print(f"{name}: {why}", file=sys.stderr)
    taken = len(studied) - len(refused)
    print(f"{taken} stages taken over. To go on: {study.again} --allow-missing")
    if refused:
        raise SystemExit(1)


def _difference(job: Job | None, known: Entry, study: Study, params: dict[str, Any]) -> str | None:
    """Why a stage of a record is not a stage of this study, as it is here; None if it is."""
    if job is None:
        return "not a stage of this pipeline"
    if job.command != known["cmd"]:
        return f"ran `{known['cmd']}`, here it is `{job.command}`"
    file = str(study.params)
    there = known.get("params", {}).get(file, {})
    for key in job.params:
        if there.get(key) != lookup(params, key):
            return f"{key} was {shown(there.get(key))}, here it is {shown(lookup(params, key))}"
    if known.get("params", {}) != ({file: there} if there else {}):
        return f"params of another file than {file}"
    if more := sorted(set(there) - set(job.params)):
        return f"{more[0]} is not a key that it reads"
    for part, wanted in (("deps", job.deps), ("outs", job.outs)):
        paths = [one["path"] for one in known[part]]
        if more := [path for path in paths if path not in wanted or paths.count(path) > 1]:
            return f"{more[0]} is not of its {part}, or twice"
        if less := [path for path in wanted if path not in paths]:
            return f"{less[0]} is not in its record"
    return None
