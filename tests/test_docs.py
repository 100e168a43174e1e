"""The pages in docs/ say what is there."""

import re
from pathlib import Path

import yaml

from splitpoint.sim.scenario import Scenario, built_in_scenarios, load_scenario

ROOT = Path(__file__).resolve().parent.parent


def test_every_field_of_a_scenario_is_told() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text()
    told = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    schema = Scenario.model_json_schema()
    sections = [schema, *schema["$defs"].values()]
    fields = {name for section in sections for name in section.get("properties", {})}
    assert fields - told == set()
    kinds = {
        section["properties"]["kind"]["const"]
        for section in sections[1:]
        if "const" in section.get("properties", {}).get("kind", {})
    }
    assert kinds - told == set()


def test_the_example_is_a_scenario() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", text, re.S)
    assert example is not None
    scenario = Scenario.model_validate({"name": "example", **yaml.safe_load(example[1])})
    assert [policy.name for policy in scenario.policies] == ["local", "greedy", "lyapunov"]


def test_the_scenarios_whose_modems_measure_by_themselves_are_named() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text()
    named = re.search(r"they do not send\. ([^.]*?) have `every_s: 0\.1`", text, re.S)
    assert named is not None
    scenarios = (load_scenario(name) for name in built_in_scenarios())
    measuring = {one.name for one in scenarios if one.channel.report.every_s == 0.1}
    assert set(re.findall(r"`(\w+)`", named[1])) == measuring


def test_the_scenarios_that_come_with_a_trained_policy_are_named() -> None:
    text = (ROOT / "docs" / "policies.md").read_text()
    named = re.search(
        r"In a scenario, live as in simulation: [^.]*\.safetensors}`\. (.*?) come with a policy", text, re.S
    )
    assert named is not None
    files = {path.stem for path in (ROOT / "scenarios" / "policies").glob("*.safetensors")}
    assert set(re.findall(r"`(\w+)`", named[1])) == files
