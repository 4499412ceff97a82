"""What commands say of themselves: help, schema, and a line for options that are wrong."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from making import FAST, fails
from vacuous import nonempty

from convnext import cli
from convnext.cli.command import Parser
from convnext.cli.parser import COMMANDS, build_parser
from convnext.cli.schema import schema_of_type
from convnext.tasks.recipes import RECIPES, build_config, models_of, task_of_recipe
from convnext.tasks.registry import TASKS

NAMES = [command.name for command in COMMANDS]


def said(capsys: pytest.CaptureFixture, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main([*argv])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_each_option_says_what_it_takes_and_means(command) -> None:
    parser = Parser(prog="x", add_help=not command.own_help)
    command.options(parser)
    for action in nonempty(parser._actions):
        if action.help == argparse.SUPPRESS:
            continue
        assert action.help, action.dest
        assert action.dest not in ("execute", "parser"), "what the parser itself says of a command"
        if action.option_strings and action.nargs != 0 and action.choices is None:
            assert action.metavar, f"{action.dest} does not say what it takes"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_help_names_options_by_their_flags(task) -> None:
    fields = dataclasses.fields(task.config)
    python = {f"`{field.name}`" for field in fields} | {field.name for field in fields if "_" in field.name}
    for field in nonempty(fields):
        assert not python & set(re.findall(r"`?\w+`?", field.metadata["help"])), field.name


@pytest.mark.parametrize("name", NAMES)
def test_help_is_printed(name: str, capsys: pytest.CaptureFixture) -> None:
    assert said(capsys, *name.split(), "--help").startswith(f"usage: convnext {name}")


def test_defaults_are_shown(capsys: pytest.CaptureFixture) -> None:
    text = " ".join(said(capsys, "evaluate", "--help").split())
    assert "images that are measured together [default: 64]" in text
    assert "[default: auto]" in text


@pytest.mark.parametrize("order", [("--help", "--recipe", "finetune_v2"), ("--recipe", "finetune_v2", "--help")])
def test_help_shows_the_values_of_the_recipe(order: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    text = " ".join(said(capsys, "train", "classify", "DATA", "--model", "convnextv2_base", *order).split())
    for part in ("[1024]", "[0.000625]", "recipe finetune_v2 (given)", "more options: --help-all"):
        assert part in text
    assert "--rand-augment" not in text


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_all_options_are_shown_on_demand(task, capsys: pytest.CaptureFixture) -> None:
    text = said(capsys, *task.command.split(), "--help-all")
    for name in nonempty(task.config().to_dict().keys() - {"recipe", "data", *task.config.FIXED}):
        assert f"--{name.replace('_', '-')} " in text
    assert "more options" not in text


def test_help_of_a_recipe_that_is_not_there_is_a_line(capsys: pytest.CaptureFixture) -> None:
    line = fails(capsys, "train", "classify", "--recipe", "finetune_v3", "--help")
    assert "unknown recipe 'finetune_v3'; nearest: finetune_v2" in line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "classify", "d", "--out", "r", "--epoch", "3"], "there is no option --epoch; nearest: --epochs"),
        (["train", "detect", "d", "--out", "r", "--mixup=0.1"], "there is no option --mixup"),
        (["evaluate", "a", "b", "--works", "1"], "nearest: --workers"),
        (["doctor", "now"], "there is no place for now"),
    ],
)
def test_an_option_that_is_not_there_gets_the_nearest(argv, message, capsys: pytest.CaptureFixture) -> None:
    assert message in fails(capsys, *argv)


def test_options_that_do_not_apply_are_refused(run: Path, colours: Path, capsys: pytest.CaptureFixture) -> None:
    for option in (["--threshold", "0.5"], ["--tile", "64"]):
        line = fails(capsys, "predict", run, colours / "val", *option)
        assert f"{option[0]} is not for `convnext train classify`'s models, which take --top-k" in line


def test_next_commands_can_be_pasted(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "my run; rm -rf x"
    assert cli.main(["train", "classify", str(colours), "--out", str(out), *FAST]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  convnext ")]
    assert lines
    for line in lines:
        words = shlex.split(line)
        assert str(out) in words
        build_parser().parse_args(words[1:])


def test_json_wherever_output_is_data(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["pack", str(colours), "--out", str(tmp_path / "shards"), "--json"]) == 0
    packed = json.loads(capsys.readouterr().out)
    assert packed == {"folder": str(tmp_path / "shards"), "images": 36, "shards": 2, "left_out": []}
    (tmp_path / "shards" / "shards.json").unlink()
    assert cli.main(["index", str(tmp_path / "shards"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 36
    assert cli.main(["train", "classify", str(colours), "--out", str(tmp_path / "run"), *FAST, "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics == json.loads((tmp_path / "run" / "result.json").read_text())


def test_schema_has_every_command_and_option(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["schema"]) == 0
    found = json.loads(capsys.readouterr().out)["$defs"]
    assert sorted(found) == sorted(NAMES)
    assert found["evaluate"]["properties"]["split"]["enum"] == ["train", "val", "test", "all"]
    assert found["evaluate"]["required"] == ["source", "data"]
    assert found["pack"]["properties"]["shard-mb"]["type"] == "integer"
    for definition in found.values():
        assert all(each["description"] for each in nonempty(definition["properties"].values()))


@pytest.mark.parametrize("name", RECIPES)
def test_schema_of_a_recipe_has_its_values(name: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["schema", name]) == 0
    found = json.loads(capsys.readouterr().out)
    config = build_config(name, models_of(name)[0], task_of_recipe(name).config)
    values = {key: value["default"] for key, value in found["properties"].items()}
    assert values == json.loads(json.dumps(config.to_dict()))
    assert type(config).from_dict(values) == config
    for key, value in values.items():
        assert suits(value, found["properties"][key]), key


def suits(value: object, schema: dict) -> bool:
    """Whether a value is of a schema, as far as schemas go here."""
    if "anyOf" in schema:
        return any(suits(value, each) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {"integer": int, "number": int | float, "string": str, "null": type(None), "boolean": bool, "array": list}
    if schema["type"] == "array":
        return isinstance(value, list) and all(map(suits, value, schema["prefixItems"]))
    return isinstance(value, kinds[schema["type"]]) and (schema["type"] == "boolean" or not isinstance(value, bool))


def test_types_as_schemas() -> None:
    assert schema_of_type(int | None) == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert schema_of_type(tuple[float, float])["prefixItems"] == [{"type": "number"}] * 2
    assert not suits(True, schema_of_type(int))


PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse of other releases breaks lines elsewhere")
def test_the_screens_in_the_documents_are_the_real_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    screens = re.findall(r"^## convnext ([^\n]*)\n\n```text\n(.*?)```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(screens) == 14
    for command, screen in screens:
        assert said(capsys, *command.split()) == screen
