"""Plug-ins are found by their entry points, imported when they are needed, and named when they do not work."""

import sys

import pytest

from tests.plugin_packages import Install
from tui_lab.util import plugin_registry
from tui_lab.util.plugin_registry import PluginError


def test_finds_a_plugin_without_importing_it(install: Install) -> None:
    install("lab-sums", "1.2", "value = 3", tasks="sums = lab_sums:value")
    plugin = plugin_registry.find("tasks", "sums")
    assert plugin is not None and (plugin.package, plugin.version, plugin.target) == (
        "lab-sums",
        "1.2",
        "lab_sums:value",
    )
    assert "lab_sums" not in sys.modules
    assert plugin.load() == 3
    assert plugin_registry.names("tasks") == ["sums"] and plugin_registry.names("checks") == []


def test_an_unknown_name_is_none(install: Install) -> None:
    install("lab-sums", tasks="sums = lab_sums:value")
    assert plugin_registry.find("tasks", "products") is None and plugin_registry.find("checks", "sums") is None


def test_two_packages_with_one_name_are_both_named(install: Install) -> None:
    install("lab-sums", "1.0", tasks="sums = lab_sums:value")
    install("other-sums", "2.0", tasks="sums = other_sums:value\nproducts = other_sums:value")
    with pytest.raises(PluginError) as raised:
        plugin_registry.find("tasks", "sums")
    assert raised.value.code == "conflict"
    assert "lab-sums 1.0" in str(raised.value) and "other-sums 2.0" in str(raised.value)
    assert plugin_registry.find("tasks", "products") is not None


@pytest.mark.parametrize(
    "code",
    ["import no_such_module", "raise SystemExit(3)", "x = 1/0", "other = 1"],
    ids=["import", "exit", "error", "name"],
)
def test_a_plugin_that_cannot_be_imported_names_its_package(install: Install, code: str) -> None:
    install("lab-sums", "1.0", code, tasks="sums = lab_sums:value")
    plugin = plugin_registry.find("tasks", "sums")
    assert plugin is not None
    with pytest.raises(PluginError) as raised:
        plugin.load()
    assert raised.value.code == "user_code" and "lab-sums 1.0" in str(raised.value)
    assert raised.value.problems[0].key == "task sums"


@pytest.mark.parametrize("name", ["two words", "a/b", "1st", "x" * 65])
def test_a_name_that_no_setting_can_hold_is_refused(install: Install, name: str) -> None:
    install("lab-sums", tasks=f"{name} = lab_sums:value")
    [plugin] = plugin_registry.installed("tasks")
    assert plugin_registry.conflict(plugin)
    with pytest.raises(PluginError):
        plugin_registry.find("tasks", name)


def test_a_name_of_ours_is_a_conflict(install: Install) -> None:
    install("lab-sums", tasks="text = lab_sums:value")
    [plugin] = plugin_registry.installed("tasks")
    assert plugin_registry.conflict(plugin) == ""
    assert "lab-sums 1.0" in plugin_registry.conflict(plugin, ("text",))


def test_the_switch_hides_all_plugins(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("lab-sums", tasks="sums = lab_sums:value")
    monkeypatch.setenv(plugin_registry.SWITCH, "off")
    assert plugin_registry.find("tasks", "sums") is None
