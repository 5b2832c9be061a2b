import pytest

from tests.process import Cli
from tui_lab.cli.serve import check_host
from tui_lab.util.errors import ConfigError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_served(host: str) -> None:
    check_host(host, risk=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_other_addresses_need_the_risk_taken_on(host: str) -> None:
    with pytest.raises(ConfigError, match="whoever does trains, reads and writes files as you"):
        check_host(host, risk=False)
    check_host(host, risk=True)


def test_refusals_are_exit_2(cli: Cli) -> None:
    done = cli("serve", "--host", "0.0.0.0")
    assert done.returncode == 2 and "--i-understand-the-risk" in done.stderr
    assert cli("serve", "nothing").returncode == 2


def test_without_a_terminal_the_app_says_what_to_use(cli: Cli) -> None:
    done = cli()
    assert done.returncode == 2 and "tui-lab run PRESET" in done.stderr
