"""What the documents tell users to type works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from meshgnn.experiment.cli import shipped
from meshgnn.export.gifti import write_surface_folder
from tests.install.commands import DOCUMENTS, PLACES, SMALL, documented
from tests.synthetic import brain

ROOT = Path(__file__).resolve().parents[2]


def test_the_quick_start_runs(tmp_path):
    text = (ROOT / "docs" / "user-guide.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- quick-start -->\n```python\n(.*?)```", text, re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    write_surface_folder(tmp_path / "mybrain", brain(2), "Planted")
    write_surface_folder(tmp_path / "otherbrain", brain(2, seed=0), "Planted")
    fewer = ["seeds=0", "trainer.epochs=20", "trainer.folds=2", "validation.blocks=2", "validation.buffer_mm=2"]
    code = code.replace('["source.folder=mybrain"]', repr(["source.folder=mybrain", *fewer]))
    (tmp_path / "quick.py").write_text(code)
    environment = {"PYTHONPATH": f"{ROOT}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "quick.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "A1" in done.stdout or "A2" in done.stdout or "A3" in done.stdout or "A4" in done.stdout


def test_every_command_in_the_documents_names_a_real_experiment_and_real_settings():
    from meshgnn.experiment.cli import resolve

    for name in ("README.md", "docs/user-guide.md", "docs/mapping.md", "docs/benchmarks.md"):
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"python -m meshgnn\.experiment +([^\n`]+)", text):
            words = line.split()
            if words[0].startswith("-"):
                continue
            assert words[0] in shipped(), line
            settings = [words[k + 1] for k, word in enumerate(words) if word == "--set"]
            resolve(words[0], settings)


def test_every_command_of_readme_and_guide_can_be_run_as_it_stands():
    """`python -m tests.install` runs them; what it would stumble over is told here, in a second."""
    from meshgnn.experiment.cli import load
    from meshgnn.override import override

    commands = documented()
    assert len(commands) > 10
    made = {*PLACES, *(command.out for command in commands)}
    for command in commands:
        assert "..." not in command.text, f"{command.text}: not complete"
        assert command.needs <= made, f"{command.text}: neither made by a command nor laid out by tests.install"
    for name, settings in SMALL.items():
        assert name in {command.name for command in commands}, f"{name} is not documented any more"
        if not name.startswith("features."):
            override(load(name)(), [one for one in settings if not one.startswith("source.") or "virtual" in name])


def parsers():
    """Command lines by module; each ends with SystemExit where it is not given what it knows."""
    from meshgnn.borders.command import parser as borders
    from meshgnn.export.command import parser as export
    from meshgnn.mapping.command import parser as mapping
    from meshgnn.mapping.config import MappingServer
    from reconstruct.sections.command import parser as sections

    return {
        "meshgnn.borders": borders(), "meshgnn.export": export(), "reconstruct.sections": sections(),
        "meshgnn.mapping": mapping(MappingServer.Config(), {}),
    }  # fmt: skip


def test_every_other_command_of_the_documents_has_real_options_and_real_settings():
    from experiments.mapping import mapping
    from meshgnn.override import override

    known, found = parsers(), []
    for command in documented((*DOCUMENTS, "docs/benchmarks.md")):
        if command.name not in known or "--help" in command.words:
            continue
        found.append(command.name)
        options = known[command.name].parse_args(list(command.words[command.words.index("-m") + 2 :]))
        if command.name == "meshgnn.mapping":
            override(mapping(), options.sets, mapping.choices)
    assert set(found) == set(known)


def test_every_option_and_setting_that_the_mapping_page_s_guide_names_is_there():
    from experiments.mapping import mapping
    from meshgnn.override import override

    text = (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")
    options = {option for one in parsers().values() for action in one._actions for option in action.option_strings}
    assert sorted(set(re.findall(r"`(--[a-z-]+)", text)) - options) == []
    settings = re.findall(r"`((?:engines|mapper)[\w.]*\w=\w+)`", text)
    assert len(settings) > 1
    for setting in settings:
        override(mapping(), [setting], mapping.choices)


@pytest.mark.parametrize("name", ["glossary.md", "walkthrough.md"])
def test_every_file_that_glossary_and_walkthrough_name_is_there(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:meshgnn|features|reconstruct|experiments|docs)/[\w./]+\.\w+)`", text))
    assert len(paths) > 15
    assert sorted(path for path in paths if not (ROOT / path).is_file()) == []


def test_every_record_of_the_glossary_is_defined_where_it_says():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    records = re.findall(
        r"- \*\*([A-Z][a-z]+[A-Z]\w+|Areas|Annotations|Split|Fold|Stage|Experiment)\*\* \(`([^`]+)`\)", text
    )
    assert len(records) > 12
    for record, path in records:
        assert f"class {record}" in (ROOT / path).read_text(encoding="utf-8"), (record, path)


def test_every_row_of_the_tables_is_in_the_glossary():
    from meshgnn.export.words import METHODS

    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert [key for key in METHODS if key not in text] == []
