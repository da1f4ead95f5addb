"""What a program says to somebody who does not know yet how it is called."""

import pytest

from cloud_side.cli import main as cloud_worker
from edge_agent.cli import main as edge_agent


@pytest.mark.parametrize(("main", "name", "command"), [
    (edge_agent, "edge-agent", "check-config"), (cloud_worker, "cloud-worker", "deploy")])
def test_a_program_without_a_command_lists_its_commands(main, name, command, capfd):
    assert main([]) == 64
    said = capfd.readouterr()
    assert said.out == "" and said.err.startswith(f"usage: {name} ")
    assert f"\n    {command}" in said.err


def test_a_command_that_has_commands_lists_them_too(capfd):
    assert edge_agent(["config"]) == 64
    said = capfd.readouterr().err
    assert said.startswith("usage: edge-agent config ") and "\n    show " in said


@pytest.mark.parametrize(("typed", "says"), [
    (["splt"], "edge-agent: error: no command 'splt'; did you mean split?"),
    (["chek-config"], "edge-agent: error: no command 'chek-config'; did you mean check-config?"),
    (["config", "sow"], "edge-agent config: error: no command 'sow'; did you mean show?"),
    (["zzz"], "edge-agent: error: no command 'zzz'; there are run, infer, "),
    # Of an option all that may be given are few, and stay.
    (["infer", "b", "x", "--bits", "12"], "edge-agent infer: error: argument --bits: invalid"
                                          " choice: 12 (choose from 1, 2, 3, 4, 5, 6, 7, 8)")])
def test_the_command_that_was_meant_is_named(typed, says, capfd):
    with pytest.raises(SystemExit) as ended:
        edge_agent(typed)
    assert ended.value.code == 64 and says in capfd.readouterr().err


def test_the_help_pointed_to_is_that_of_the_command(tmp_path, capfd):
    assert edge_agent(["split", str(tmp_path / "m.tflite"), "--cuts", "some"]) == 64
    assert capfd.readouterr().err.endswith("\n(see `edge-agent split --help`)\n")
