#!/usr/bin/python3
"""The first process of a private host: what systemd is on an installed one, as far as our own units use it.

Runs as process 1 of new network, mount and pid namespaces (scripts/stack makes them), so that the end of this process is the end of
everything in them. It mounts private copies of what libvirt keeps in /run, /etc and /var, then starts libvirtd and the daemons
from systemd/*.service and *.socket: sockets are opened here once and passed on, so that a call made while a daemon is being
replaced waits; Type=notify, After=, Restart=always, WatchdogSec= and KillMode= mean what they mean to systemd. Orphans (QEMU among
them) are reaped at once.

stack-init.py STATE BUILD HTTP_FD ALIVE_FD EXIT_FD
HTTP_FD   the endpoint's listening socket, opened in the caller's own network
ALIVE_FD  the reading end of a pipe: until "keep" comes, its closing means that the starter died, and so do we

EXIT_FD   held for as long as we live: its closing ends the helper that is the guests' way out; "-" without one

STATE/control.sock takes one JSON line per connection: {"verb": "status" | "kill" | "stop" | "start" | "down", …}.
"""
import ctypes
import errno
import fcntl
import json
import os
import select
import selectors
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
RUNTIME = "/run/gureum"
LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND = 4096

selector = selectors.DefaultSelector()
services = {}


def log(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


# ---- the private host ----

def mount(source, target, kind=None, flags=0, options=None):
    words = [w.encode() if w else None for w in (source, target, kind, options)]
    if LIBC.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) < 0:
        e = ctypes.get_errno()
        raise OSError(e, f"mount {target}: {os.strerror(e)}")


QEMU_CONF = """\
# One private libvirtd, everything as its root: there is no other user in this host.
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
LIBVIRTD_CONF = """\
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
log_outputs = "3:stderr"
"""


# libvirt's QEMU driver does not start without the user that it was built for, even if another is configured. Only the package for
# installed hosts makes it, with a service that this machine shall not get.
QEMU_USER = {"passwd": "libvirt-qemu:x:64055:64055:Libvirt Qemu:/var/lib/libvirt:/usr/sbin/nologin\n",
             "group": "libvirt-qemu:x:64055:\n"}


def add_qemu_user(private):
    """The private host's own lists of users and groups, where this machine's lack libvirt's."""
    for name, line in QEMU_USER.items():
        with open("/etc/" + name) as f:
            text = f.read()
        if "\nlibvirt-qemu:" in text:
            continue
        path = os.path.join(private, name)
        with open(path, "w") as f:
            f.write(text if text.endswith("\n") else text + "\n")
            f.write(line)
        mount(path, "/etc/" + name, flags=MS_BIND)


def make_host(state):
    """Mounts and network of the private host. Nothing here outlives our namespaces."""
    private = os.path.join(state, "libvirt")
    for name in ("etc", "lib", "cache", "log"):
        os.makedirs(os.path.join(private, name), exist_ok=True)
    with open(os.path.join(private, "etc", "qemu.conf"), "w") as f:
        f.write(QEMU_CONF)
    with open(os.path.join(private, "etc", "libvirtd.conf"), "w") as f:
        f.write(LIBVIRTD_CONF)
    mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
    for name in ("lock", "netns", "libvirt", "gureum"):
        os.makedirs("/run/" + name)
    for name, target in (("etc", "/etc/libvirt"), ("lib", "/var/lib/libvirt"), ("cache", "/var/cache/libvirt"),
                         ("log", "/var/log/libvirt")):
        os.makedirs(target, exist_ok=True)  # empty mount points are all that the machine itself may get
        mount(os.path.join(private, name), target, flags=MS_BIND)
    add_qemu_user(private)
    # That of the new network namespace; cgroups stay out of it.
    mount("sysfs", "/sys", "sysfs")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # A firewall of the machine's own (Docker's) must not see bridged frames; these switches belong to our namespace alone.
    for name in ("iptables", "ip6tables", "arptables"):
        try:
            with open(f"/proc/sys/net/bridge/bridge-nf-call-{name}", "w") as f:
                f.write("0")
        except FileNotFoundError:
            pass  # no br_netfilter here


# ---- units ----

def read_unit(path):
    """Section → list of (name, value): systemd allows a name several times."""
    sections, current = {}, None
    with open(path) as f:
        for line in f:
            line = line.strip()
            if line.startswith("["):
                current = sections.setdefault(line[1:-1], [])
            elif line and line[0] not in "#;" and current is not None:
                name, _, value = line.partition("=")
                current.append((name.strip(), value.strip()))
    return sections


def unit_values(unit, section, name):
    return [v for n, v in unit.get(section, []) if n == name]


def unit_value(unit, section, name, otherwise=None):
    values = unit_values(unit, section, name)
    return values[-1] if values else otherwise


def seconds(text):
    for suffix, factor in (("ms", 0.001), ("min", 60), ("s", 1)):
        if text.endswith(suffix):
            return float(text[:-len(suffix)]) * factor
    return float(text)


class Service:
    """One daemon: how to start it, and the process that it is now."""

    def __init__(self, name, argv, state):
        self.name, self.argv = name, argv
        self.log_path = os.path.join(state, "log", name + ".log")
        self.sockets = []          # (FileDescriptorName, socket)
        self.after = []            # names of services
        self.restart_sec = 0.1
        self.watchdog_sec = 0.0
        self.kill_group = True     # systemd's KillMode=control-group
        self.environment = {}
        self.pid = 0
        self.is_ready = self.was_ready = self.is_wanted = False
        self.n_restarts = 0
        self.started = self.alive = self.due = 0.0
        self.quick_deaths = 0

    def start(self):
        self.started = self.alive = time.monotonic()
        self.is_ready = False
        self.due = 0.0
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.become()
            except BaseException as e:
                os.write(2, f"stack: cannot start {self.name}: {e}\n".encode())
            os._exit(127)

    def become(self):
        os.setsid()
        fd = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        env = dict(os.environ, NOTIFY_SOCKET="@gureum-stack-notify", **self.environment)
        env.pop("JOURNAL_STREAM", None)
        if self.watchdog_sec:
            env["WATCHDOG_USEC"] = str(int(self.watchdog_sec * 1e6))
            env["WATCHDOG_PID"] = str(os.getpid())
        # Out of the way first: a target number could be a source still to be copied.
        high = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 200) for _, s in self.sockets]
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i, inheritable=True)
        if high:
            env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)),
                       LISTEN_FDNAMES=":".join(n for n, _ in self.sockets))
        os.closerange(3 + len(high), 4096)
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(s, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execve(self.argv[0], self.argv, env)

    def died(self, status):
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.waitstatus_to_exitcode(status)}"
        log(f"{self.name} ended ({how})")
        if self.kill_group:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it left nobody behind
        lived = time.monotonic() - self.started
        self.quick_deaths = self.quick_deaths + 1 if lived < 2 else 0
        self.pid, self.is_ready = 0, False
        if self.is_wanted:
            self.n_restarts += 1
            # One that cannot start must not use up the machine: after five quick deaths a second between tries.
            self.due = time.monotonic() + (self.restart_sec if self.quick_deaths < 5 else 1.0)

    def state(self):
        return {"name": self.name, "pid": self.pid, "ready": self.is_ready, "restarts": self.n_restarts,
                "seconds": round(time.monotonic() - self.started, 1) if self.pid else 0}


def open_sockets(listen, http):
    """The sockets of a ListenStream=: a path of the private host, or the endpoint, which the starter opened; that one is opened in here,
    too, for what has to reach both the API and the guests (ssh after launching, say)."""
    if not listen.startswith("/"):
        inside = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        inside.bind(http.getsockname())
        inside.listen(512)
        return [http, inside]
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(listen)
    os.chmod(listen, 0o660)
    s.listen(128)
    return [s]


def load_services(state, build, http):
    libvirtd = Service("libvirtd", ["/usr/sbin/libvirtd", "-f", "/etc/libvirt/libvirtd.conf"], state)
    libvirtd.kill_group = False
    libvirtd.environment = {"HOME": "/root"}
    services["libvirtd"] = libvirtd
    folder = os.path.join(TOP, "systemd")
    units = {n: read_unit(os.path.join(folder, n)) for n in sorted(os.listdir(folder)) if n.endswith((".service", ".socket"))}
    for name, unit in units.items():
        if not name.endswith(".service"):
            continue
        argv = unit_value(unit, "Service", "ExecStart").split()
        program = os.path.basename(argv[0])
        s = Service(program, [os.path.join(build, program, program)] + argv[1:] + ["-c", os.path.join(state, "gureum.conf")],
                    state)
        s.restart_sec = seconds(unit_value(unit, "Service", "RestartSec", "100ms"))
        s.watchdog_sec = seconds(unit_value(unit, "Service", "WatchdogSec", "0"))
        s.kill_group = unit_value(unit, "Service", "KillMode", "control-group") == "control-group"
        for words in unit_values(unit, "Unit", "After"):
            s.after += [w.removesuffix(".service").removeprefix("gureum-") for w in words.split() if w.endswith(".service")]
        for socket_unit in units.values():
            if unit_value(socket_unit, "Socket", "Service") == name:
                name_of = unit_value(socket_unit, "Socket", "FileDescriptorName")
                s.sockets += [(name_of, each) for each in open_sockets(unit_value(socket_unit, "Socket", "ListenStream"), http)]
        services[program] = s


# ---- the loop ----

def reap():
    """Takes in whoever ended; their ids."""
    ended = set()
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.add(pid)
        for s in services.values():
            if s.pid == pid:
                s.died(status)


def start_what_is_due():
    """Starts what is wanted and may start; returns the seconds until the next look, None for never."""
    now, next_look = time.monotonic(), None
    for s in services.values():
        if s.pid:
            if s.watchdog_sec and s.is_ready:
                left = s.alive + s.watchdog_sec - now
                if left <= 0:
                    log(f"{s.name} does not answer its watchdog")
                    os.kill(s.pid, signal.SIGABRT)
                    s.alive = now
                else:
                    next_look = min(next_look or left, left)
            continue
        # The order counts for the first start only, as with systemd.
        if not s.is_wanted or any(not services[a].was_ready for a in s.after if a in services):
            continue
        if s.due > now:
            next_look = min(next_look or s.due - now, s.due - now)
            continue
        s.start()
    return next_look


def on_notify(notify):
    while True:
        try:
            text, control, _, _ = notify.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
        except BlockingIOError:
            return
        pid = 0
        for level, kind, value in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid = struct.unpack("3i", value)[0]
        for s in services.values():
            if not s.pid or s.pid != pid:
                continue
            lines = text.decode("utf-8", "replace").split("\n")
            if "READY=1" in lines:
                s.alive = time.monotonic()
                s.is_ready = s.was_ready = True
                log(f"{s.name} is ready after {time.monotonic() - s.started:.2f} s")
            if "WATCHDOG=1" in lines:
                s.alive = time.monotonic()


def end_service(s, limit):
    s.is_wanted = False
    if not s.pid:
        return
    os.kill(s.pid, signal.SIGTERM)
    until = time.monotonic() + limit
    while s.pid and time.monotonic() < until:
        time.sleep(0.01)
        reap()
    if s.pid:
        log(f"{s.name} did not end by itself")
        os.kill(s.pid, signal.SIGKILL)


def end_guests(limit):
    """What libvirt-guests.service does on a host that goes down: the power button, then patience."""
    def running():
        r = subprocess.run(["virsh", "-q", "-c", "qemu:///system", "list", "--name"], capture_output=True, text=True, timeout=20)
        return [n for n in r.stdout.split("\n") if n.strip()]
    try:
        guests = running()
        for name in guests:
            subprocess.run(["virsh", "-q", "-c", "qemu:///system", "shutdown", name], capture_output=True, timeout=20)
        until = time.monotonic() + limit
        while guests and time.monotonic() < until:
            time.sleep(0.1)
            guests = running()
        for name in guests:
            log(f"guest {name} did not power off: cut")
    except (OSError, subprocess.TimeoutExpired) as e:
        log(f"guests are cut off: {e}")


def down(is_cut):
    for name in ("apid", "hvd", "netd", "stord"):
        if name in services:
            end_service(services[name], 0.2 if is_cut else 5)
    if not is_cut and services["libvirtd"].pid:
        # In a child, because process 1 has to go on reaping: libvirt waits for a QEMU's corpse to go.
        helper = os.fork()
        if helper == 0:
            try:
                end_guests(15)
            finally:
                os._exit(0)
        while helper not in reap():
            time.sleep(0.01)
    log("down")
    os._exit(0)  # and with process 1 everything else in here


def answer(request):
    verb = request.get("verb")
    if verb == "status":
        return {"services": [s.state() for s in services.values()]}
    if verb == "down":
        down(bool(request.get("cut")))
    s = services.get(request.get("service"))
    if s is None:
        return {"error": f"no such daemon: {request.get('service')}"}
    if verb == "kill":
        if not s.pid:
            return {"error": f"{s.name} is not running"}
        pid = s.pid
        os.kill(pid, int(request.get("signal", signal.SIGKILL)))
        return {"pid": pid}
    if verb == "stop":
        end_service(s, 5)
        return {}
    if verb == "start":
        s.is_wanted, s.due = True, 0
        return {}
    return {"error": f"no such verb: {verb}"}


def on_control(listener):
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5)
        try:
            line = connection.makefile("r").readline(65536)
            reply = answer(json.loads(line))
            connection.sendall((json.dumps(reply) + "\n").encode())
        except (OSError, ValueError, AttributeError) as e:
            log(f"control: {e}")


def wait_way_out(exit_fd):
    """The starter gives us a link with a default route; netd reads the routes when it starts. A helper that ended gives none, and nobody
    holds the other end of its pipe then."""
    helper = select.poll()
    helper.register(exit_fd, 0)  # errors are told all the same
    while not helper.poll(10):
        with open("/proc/net/route") as f:
            if any(line.split()[1] == "00000000" for line in f.readlines()[1:]):
                return
    log("no way out came")


def listen_control(state):
    # By a short relative name: a socket's path holds 108 bytes, a state directory's may be longer.
    os.chdir(state)
    try:
        os.unlink("control.sock")
    except FileNotFoundError:
        pass
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind("control.sock")
    os.chmod("control.sock", stat.S_IRUSR | stat.S_IWUSR)
    s.listen(16)
    os.chdir("/")
    return s


def listen_notify():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    s.setblocking(False)
    s.bind("\0gureum-stack-notify")  # abstract names belong to the network namespace: ours alone
    return s


def watch_starter(fd):
    """Ends us with the starter, until it says that we shall stay."""
    try:
        text = os.read(fd, 16)
    except OSError as e:
        text = b"" if e.errno != errno.EINTR else b"keep"
    selector.unregister(fd)
    os.close(fd)
    if text != b"keep":
        log("the starter died")
        down(True)


def main():
    state, build, http_fd, alive_fd = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    os.makedirs(os.path.join(state, "log"), exist_ok=True)
    os.umask(0o022)
    make_host(state)
    if sys.argv[5] != "-":
        wait_way_out(int(sys.argv[5]))
    http = socket.socket(fileno=http_fd)
    load_services(state, build, http)
    notify, control = listen_notify(), listen_control(state)
    wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: down(False))
    signal.signal(signal.SIGINT, lambda *_: down(False))
    selector.register(wake_r, selectors.EVENT_READ, lambda: os.read(wake_r, 4096))
    selector.register(notify, selectors.EVENT_READ, lambda: on_notify(notify))
    selector.register(control, selectors.EVENT_READ, lambda: on_control(control))
    selector.register(alive_fd, selectors.EVENT_READ, lambda: watch_starter(alive_fd))
    for s in services.values():
        s.is_wanted = True
    while True:
        on_notify(notify)  # what came while something else took its time, before anybody is judged by his silence
        wait = start_what_is_due()
        for key, _ in selector.select(wait):
            key.data()
        reap()


if __name__ == "__main__":
    main()
