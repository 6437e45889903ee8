"""What deploy/install-tools.sh says and does, with programs in place of those of the machine."""

import os
import subprocess

import pytest
from real_servers import INSTALLER, real_program

ALL_TOOLS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
NEEDED = ("awk", "bash", "sort", "tr", "cat", "rm", "chmod")


@pytest.fixture
def machine(tmp_path):
    """A folder of programs that is all there is on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(real_program(name))
    has(programs, "shellcheck")  # the servers are what these tests are about
    return programs


def has(machine, name, script="exit 0"):
    path = machine / name
    path.write_text(f"#!{real_program('bash')}\n{script}\n")
    path.chmod(0o755)


def install(machine, *arguments):
    env = {**os.environ, "PATH": str(machine), "POLICY_RC_D": str(machine / "policy-rc.d")}
    return subprocess.run([INSTALLER, *arguments], check=False, capture_output=True, text=True, env=env)


def test_nothing_is_done_where_all_are_there(machine):
    for name in ALL_TOOLS:
        has(machine, name)
    has(machine, "apt-get", "exit 1")

    done = install(machine)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_is_not_root_hears_what_to_install_and_goes_on(machine):
    has(machine, "apt-get", "exit 1")
    has(machine, "id", "echo 1000")
    for name in ("prometheus", "promtool"):
        has(machine, name)

    done = install(machine)

    assert done.returncode == 0
    assert "as root: apt-get install --no-install-recommends prometheus-alertmanager)" in done.stderr


def test_a_machine_without_apt_hears_which_packages_they_are(machine):
    done = install(machine)

    assert done.returncode == 0
    assert "prometheus prometheus-alertmanager (install them by your system's own means)" in done.stderr


def test_root_installs_what_is_missing_only_and_lets_no_service_start(machine, tmp_path):
    has(machine, "apt-get", f'echo "$*" >> {tmp_path}/asked; {machine}/policy-rc.d || echo "services: $?" >> {tmp_path}/asked')
    has(machine, "id", "echo 0")
    for name in ("prometheus-alertmanager", "amtool"):
        has(machine, name)

    done = install(machine)

    assert done.returncode == 0
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        "update -qq",
        "services: 101",  # which tells Debian to start none
        "install -qq -y --no-install-recommends prometheus",
        "services: 101",
    ]
    assert not (machine / "policy-rc.d").exists()


def test_a_package_source_that_is_away_is_said_and_stops_nothing(machine):
    has(machine, "apt-get", "exit 100")
    has(machine, "id", "echo 0")

    done = install(machine)

    assert done.returncode == 0
    assert "apt-get could not install" in done.stderr


def test_a_missing_program_skips_a_test_here_and_fails_it_in_continuous_integration(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"deploy/install-tools\.sh"):
        real_program("no-such-program-anywhere")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program-anywhere is not on PATH"):
        real_program("no-such-program-anywhere")
