"""`make install` puts a host in order: files, units that systemd accepts, a configuration that the daemons understand."""
import os
import re
import shutil
import subprocess

import pytest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
DAEMONS = ["apid", "hvd", "netd", "stord"]


def make(*words):
    # As a careful root's shell has it: what is installed is for the daemons' users, too.
    r = subprocess.run(["make", "--no-print-directory", "-C", TOP, *words], capture_output=True, text=True, umask=0o077)
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("root"))
    make("install", f"DESTDIR={root}")
    return root


def files(root):
    return {os.path.relpath(os.path.join(d, f), root) for d, _, names in os.walk(root) for f in names}


def test_everything_is_in_its_place(root):
    wanted = {f"usr/lib/gureum/{d}" for d in DAEMONS} | {f"usr/lib/systemd/system/gureum-{d}.service" for d in DAEMONS}
    wanted |= {f"usr/lib/systemd/system/gureum-{d}.socket" for d in DAEMONS}
    wanted |= {"usr/bin/gureum", "usr/lib/gureum/gureum-agent", "usr/lib/systemd/system/gureum.target", "etc/gureum/gureum.conf",
               "usr/lib/sysusers.d/gureum.conf", "usr/lib/tmpfiles.d/gureum.conf", "usr/share/gureum/build-image",
               "usr/share/man/man5/gureum.conf.5"}
    assert wanted <= files(root)


def test_everybody_may_read_it(root):
    assert [f for f in files(root) if os.stat(os.path.join(root, f)).st_mode & 0o044 != 0o044] == []


def test_a_daemon_that_dies_often_comes_back(root):
    for daemon in DAEMONS:
        with open(f"{root}/usr/lib/systemd/system/gureum-{daemon}.service") as f:
            text = f.read()
        assert "\nRestart=always\n" in text and "\nStartLimitIntervalSec=0\n" in text, daemon


def test_nothing_names_the_build_tree(root):
    tree = re.compile(rf"(?<![\w.$)}}\]/]){re.escape(TOP)}(?![\w.-])")  # as a path: it may be called /build
    for name in files(root):
        if not name.startswith(("usr/lib/gureum/", "usr/bin/")):
            with open(os.path.join(root, name), errors="replace") as f:
                assert not tree.search(f.read()), name


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_daemons_understand_the_installed_configuration(root, daemon):
    r = subprocess.run([f"{root}/usr/lib/gureum/{daemon}", "-c", f"{root}/etc/gureum/gureum.conf", "--check"], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    assert "StateDirectory=/var/lib/gureum" in r.stdout


def test_an_endpoint_whose_certificate_is_not_there_is_not_ready(root, tmp_path):
    (tmp_path / "conf").write_text(f"[Paths]\nStateDirectory={tmp_path}/state\nRuntimeDirectory={tmp_path}/run\n"
                                   f"[Api]\nListen=127.0.0.1:0\nTls=yes\nTlsCertificate={tmp_path}/none\nTlsKey={tmp_path}/none\n")
    r = subprocess.run([f"{root}/usr/lib/gureum/apid", "-c", f"{tmp_path}/conf"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and "no TLS certificate" in r.stderr and "ready" not in r.stderr, r.stderr


def test_systemd_accepts_the_units(root, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    # The units name others of the system (sysinit.target, libvirtd): systemd's own and stand-ins for their programs.
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    shutil.copytree("/usr/lib/systemd/system", copy / "usr/lib/systemd/system", dirs_exist_ok=True, symlinks=True)
    for program in ("usr/sbin/libvirtd", "usr/sbin/virtlogd", "usr/sbin/virtlockd"):
        (copy / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", copy / program)
    units = sorted(u for u in os.listdir(f"{root}/usr/lib/systemd/system"))
    r = subprocess.run(["systemd-analyze", "verify", f"--root={copy}", "--man=no", *units], capture_output=True, text=True)
    ours = [line for line in (r.stdout + r.stderr).split("\n") if "gureum" in line]
    assert r.returncode == 0 and not ours, r.stdout + r.stderr


def test_qemu_may_pass_to_its_agents_socket_and_list_nothing(root):
    """Its user is neither ours nor of our group."""
    with open(f"{root}/usr/lib/tmpfiles.d/gureum.conf") as f:
        meeting = re.search(r"^d /run/gureum (\d+) root gureum", f.read(), re.M)
    with open(f"{root}/usr/lib/systemd/system/gureum-hvd.service") as f:
        unit = f.read()
    agents = re.search(r"^RuntimeDirectory=gureum/agents\nRuntimeDirectoryMode=(\d+)$", unit, re.M)
    assert [int(m[1], 8) & 0o7 for m in (meeting, agents)] == [1, 1]
    assert "kvm" in re.search(r"^SupplementaryGroups=(.*)", unit, re.M)[1].split()


def test_users_are_made_of_what_the_units_name(root):
    with open(f"{root}/usr/lib/sysusers.d/gureum.conf") as f:
        text = f.read()
    known = set(re.findall(r"^[ug] (\S+)", text, re.M)) | {"root"}
    for daemon in DAEMONS:
        with open(f"{root}/usr/lib/systemd/system/gureum-{daemon}.service") as f:
            unit = f.read()
        assert set(re.findall(r"^(?:User|Group)=(\S+)", unit, re.M)) <= known


def test_another_prefix_is_followed(tmp_path):
    make("install", f"DESTDIR={tmp_path}", "prefix=/opt/gureum")
    with open(tmp_path / "opt/gureum/lib/systemd/system/gureum-apid.service") as f:
        assert "ExecStart=/opt/gureum/lib/gureum/apid" in f.read()
    # The scripts find the agent beside them.
    share = tmp_path / "opt/gureum/share/gureum"
    for script in ("build-image", "build-debian-image"):
        text = (share / script).read_text()
        assert "$here/../../lib/gureum/gureum-agent" in text and "/usr/lib/gureum" not in text, script
    assert (share / "../../lib/gureum/gureum-agent").exists()


def test_uninstall_leaves_configuration_only(root, tmp_path):
    copy = str(tmp_path / "root")
    shutil.copytree(root, copy)
    make("uninstall", f"DESTDIR={copy}")
    assert files(copy) == {"etc/gureum/gureum.conf"}
