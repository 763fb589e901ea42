"""hvd's part in block storage without guests: an "instance" is a qemu-storage-daemon, which is QEMU's block layer with QMP and NBD.

What hvd does by libvirt this does by QMP: a disk goes on in a new layer, layers are committed and pulled. It keeps hvd's promise
about paths (hvd/layers.h) as well.
"""
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time

from conftest import Fault


class Refused(Exception):
    pass


class Dead(Exception):
    """A step killed hvd: no answer."""


def is_abandoned(s):
    """Who asked has hung up: as hvd, we do not begin what nobody waits for."""
    p = select.poll()
    p.register(s, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in p.poll(0))


class Qemu:
    """One instance's block layer."""

    def __init__(self, directory, name, is_direct=False, step=lambda what: None):
        self.step = step
        self.speed = 0  # of commits, bytes a second; 0: as fast as can be
        self.is_direct = is_direct  # past the host's page cache, as libvirt's cache='none'
        self.nbd = os.path.join(directory, f"{name}.nbd")
        self.disks, self.n_nodes, self.old, self.keys = {}, 0, set(), set()
        self.names = {}  # path: node, of encrypted layers: QEMU does not know them by their paths
        # A pair of sockets, not a listener: as the monitor goes to a thread of its own, a client that comes early is seen by both, and who is second waits for ever.
        ours, its = socket.socketpair()
        with its:
            self.process = subprocess.Popen(
                ["qemu-storage-daemon", "--chardev", f"socket,fd={its.fileno()},id=q", "--monitor", "chardev=q",
                 "--nbd-server", f"addr.type=unix,addr.path={self.nbd},max-connections=0"], stderr=subprocess.DEVNULL, pass_fds=[its.fileno()])
        ours.settimeout(60)
        self.connection = ours.makefile("rw")
        ours.close()  # the file has it
        self.connection.readline()
        self.lock = threading.Lock()
        self.qmp("qmp_capabilities")

    def qmp(self, command, **arguments):
        if not command.startswith("query-"):
            self.step(f"QMP: {command}")
        with self.lock:
            self.connection.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self.connection.flush()
            while True:
                answer = json.loads(self.connection.readline())
                if "error" in answer:
                    raise Refused(answer["error"]["desc"])
                if "return" in answer:
                    return answer["return"]

    def node(self, path, key=None, backing=None, is_under=False):
        """As libvirt does it, a plain chain is found by its headers, and an encrypted one told of layer by layer."""
        self.n_nodes += 1
        name = f"n{self.n_nodes}"
        more = {"encrypt": {"format": "luks", "key-secret": key}} if key else {}
        if backing:
            more["backing"] = backing
        if is_under:
            more["read-only"] = True
        self.qmp("blockdev-add", **{"driver": "qcow2", "node-name": name, "cache": {"direct": self.is_direct},
                                     "file": {"driver": "file", "filename": path}, **more})
        return name

    def plug(self, volume, path, passphrase=None, chain=()):
        node, key, under = None, None, set()
        if passphrase:
            key = f"k-{volume}"
            if volume not in self.keys:
                self.qmp("object-add", **{"qom-type": "secret", "id": key, "data": passphrase})
                self.keys.add(volume)
            for layer in reversed(chain):
                node = self.names[layer["Path"]] = self.node(layer["Path"], key, node, is_under=True)
                under.add(node)
        node = self.names[path] = self.node(path, key, node)
        self.export(volume, node)
        self.disks[volume] = [node, path]
        self.old |= under  # only now: whatever is in it and in no chain is closed

    def export(self, volume, node):
        self.qmp("block-export-add", **{"type": "nbd", "id": f"e-{volume}", "node-name": node, "name": volume, "writable": True})

    def hide(self, volume):
        self.qmp("block-export-del", id=f"e-{volume}", mode="hard")
        while any(e["id"] == f"e-{volume}" for e in self.qmp("query-block-exports")):
            time.sleep(0.005)

    def grow(self, volume, size):
        """A device of a guest's lets its disk grow, an export of NBD does not: it goes for a moment."""
        node, path = self.disks[volume]
        if self.sizes().get(node) == size:
            return
        self.hide(volume)
        if node not in self.sizes():  # what a switch made is held by the export alone
            node = self.disks[volume][0] = self.node(path)
        self.qmp("block_resize", **{"node-name": node, "size": size})
        self.export(volume, node)

    def sizes(self):
        return {n["node-name"]: n["image"]["virtual-size"] for n in self.qmp("query-named-block-nodes", flat=True)}

    def unplug(self, volume):
        self.stop_job(volume)
        node, _ = self.disks.pop(volume)
        self.hide(volume)
        self.old.add(node)
        self.wait_job(volume)

    def switch(self, wanted):
        """{volume: path}: all at one instant."""
        for volume in wanted:
            self.stop_job(volume)
        nodes = {}
        for volume in wanted:
            self.n_nodes += 1
            nodes[volume] = f"n{self.n_nodes}"
        # Not blockdev-snapshot: its "backing": null is parsed in one thread of QEMU 7.2 and freed in another, and so often that counts.
        actions = []
        for v, n in nodes.items():
            if v in self.keys:  # for it there is no other way
                self.qmp("blockdev-add", **{"driver": "qcow2", "node-name": n, "cache": {"direct": self.is_direct}, "backing": None,
                                            "encrypt": {"format": "luks", "key-secret": f"k-{v}"},
                                            "file": {"driver": "file", "filename": wanted[v]}})
                self.names[wanted[v]] = n
                actions.append({"type": "blockdev-snapshot", "data": {"node": self.disks[v][0], "overlay": n}})
            else:
                actions.append({"type": "blockdev-snapshot-sync", "data": {
                    "node-name": self.disks[v][0], "snapshot-file": wanted[v], "snapshot-node-name": n, "format": "qcow2", "mode": "existing"}})
        self.qmp("transaction", actions=actions)
        for volume, node in nodes.items():
            self.old.add(self.disks[volume][0])
            self.disks[volume] = [node, wanted[volume]]

    def job(self, volume):
        return any(j["id"] == f"j-{volume}" for j in self.qmp("query-jobs"))

    def stop_job(self, volume):
        try:
            self.qmp("job-cancel", id=f"j-{volume}")
        except Refused:
            pass
        self.wait_job(volume)

    def wait_job(self, volume):
        while self.job(volume):
            time.sleep(0.005)
        # What a job took out of the chain is ours to close, as libvirt does.
        n_before = None
        while n_before != len(self.old):  # one may stand on another
            n_before = len(self.old)
            for node in sorted(self.old):
                try:
                    self.qmp("blockdev-del", **{"node-name": node})
                    self.old.discard(node)
                except Refused:
                    pass  # still in a chain, or closed by another thread

    def commit(self, volume, top, base):
        if volume in self.keys:
            of = {"top-node": self.names[top], "base-node": self.names[base], "backing-file": base}
        else:
            of = {"top": top, "base": base}
        self.qmp("block-commit", **{"job-id": f"j-{volume}", "device": self.disks[volume][0], "speed": self.speed, **of})

    def pull(self, volume, base):
        more = {}
        if base:
            more = {"base-node": self.names[base], "backing-file": base} if volume in self.keys else {"base": base}
        self.qmp("block-stream", **{"job-id": f"j-{volume}", "device": self.disks[volume][0], **more})

    def url(self, volume):
        return f"nbd+unix:///{volume}?socket={self.nbd}"

    def flush_and_end(self):
        self.process.terminate()
        self.process.wait()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Guests:
    """The daemon at hvd.sock, and its instances."""

    def __init__(self, stord):
        self.stord, self.instances, self.epoch = stord, {}, {}
        self.directory = os.path.join(stord.root, "guests")
        os.makedirs(self.directory, exist_ok=True)
        self.lock = threading.RLock()
        self.n_starts, self.refuse, self.direct = 0, False, set()
        self.step = lambda what: None  # called before each act of hvd's; may kill
        self.server, self.open = None, []
        self.listen()

    # ---- what a test does ----

    def start(self, instance):
        self.n_starts += 1
        self.instances[instance] = Qemu(self.directory, f"{instance}.{self.n_starts}", instance in self.direct, lambda what: self.step(what))

    def plug(self, instance, volume, device="/dev/sdf"):
        """As hvd does: ask for the path, and use it only if nothing has changed since."""
        end = time.monotonic() + 120
        while True:
            with self.lock:
                epoch = self.epoch.get(instance, 0)
            try:
                reply = self.stord("ec2.AttachVolume", VolumeId=volume, InstanceId=instance, Device=device)
            except Fault as e:  # we are slower than a test's GuestTimeoutSec: asked again, as a customer does
                if e.code != "ServiceUnavailable" or time.monotonic() > end:
                    raise
                continue
            with self.lock:
                if epoch == self.epoch.get(instance, 0):
                    if volume not in self.instances[instance].disks:
                        self.instances[instance].plug(volume, reply["_Path"], reply.get("_Passphrase"), reply.get("_Chain", ()))
                    return

    def unplug(self, instance, volume):
        with self.lock:
            if instance in self.instances and volume in self.instances[instance].disks:
                self.instances[instance].unplug(volume)

    def end(self, instance, how="flush_and_end"):
        """The instance's QEMU ends, orderly or by kill -9; its volumes stay attached."""
        with self.lock:
            getattr(self.instances.pop(instance), how)()

    def close(self):
        self.hang_up()
        for instance in list(self.instances):
            self.end(instance)

    # ---- the daemon ----

    def listen(self):
        path = os.path.join(self.stord.root, "run", "hvd.sock")
        if os.path.exists(path):
            os.unlink(path)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(64)
        threading.Thread(target=self.accept, args=(self.server,), daemon=True).start()

    def hang_up(self):
        """hvd dies: calls under way have no answer, and what it knew of paths is forgotten."""
        if self.server.fileno() >= 0:
            self.server.shutdown(socket.SHUT_RDWR)
            self.server.close()
        for s in self.open:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open = []

    def accept(self, server):
        while True:
            try:
                s, _ = server.accept()
            except OSError:
                return
            self.open.append(s)
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        buffer = b""
        with s:
            while True:
                try:
                    data = s.recv(65536)
                except OSError:
                    return
                if not data:
                    return
                buffer += data
                while b"\0" in buffer:
                    message, buffer = buffer.split(b"\0", 1)
                    call = json.loads(message)
                    try:
                        self.step(call["method"])
                        if is_abandoned(s):
                            return
                        reply = {"parameters": self.answer(call["method"], call["parameters"])}
                        self.step("the answer to " + call["method"])
                    except Dead:
                        return
                    except Exception as e:  # an instance that a test killed in the middle of it fails in many ways
                        reply = {"error": "IncorrectState", "parameters": {"status": 400, "message": str(e)}}
                    try:
                        s.sendall(json.dumps(reply).encode() + b"\0")
                    except OSError:
                        return

    def answer(self, method, p):
        if method == "ec2.DescribeInstances":
            return {"Reservations": [{"Instances": [{"InstanceId": p["InstanceIds"][0], "RootDeviceName": "/dev/xvda"}]}]}
        if method == "gureum.SwitchLayers":
            return self.switch(p)
        volume, qemu = p["VolumeId"], self.instances.get(p["InstanceId"])
        if method == "gureum.ApplyVolume":
            return self.apply(p, volume, qemu)
        if not qemu or volume not in qemu.disks:
            raise Refused("no running guest")
        if method == "gureum.StopMerge":
            qemu.stop_job(volume)
            return {}
        qemu.wait_job(volume)
        if method == "gureum.FlushVolume":
            subprocess.run(["qemu-io", "-f", "raw", "-c", "flush", qemu.url(volume)], check=True, stdout=subprocess.DEVNULL)
            return {}
        with self.lock:  # not while disks are switched
            if method == "gureum.CommitLayer":
                qemu.commit(volume, p["Top"], p["Base"])
            else:
                if qemu.disks[volume][1] != p["Top"]:
                    raise Refused("the guest does not write that layer")
                qemu.pull(volume, p.get("Base"))
        qemu.wait_job(volume)
        return {}

    def apply(self, p, volume, qemu):
        with self.lock:
            is_live = bool(qemu and volume in qemu.disks)
            if is_live and "Bytes" in p:
                qemu.grow(volume, p["Bytes"])
            if not is_live:
                self.epoch[p["InstanceId"]] = self.epoch.get(p["InstanceId"], 0) + 1
            return {"Live": is_live}

    def switch(self, p):
        with self.lock:
            qemu, instance = self.instances.get(p["InstanceId"]), p["InstanceId"]
            disks = {d["VolumeId"]: d.get("Path") for d in p["Disks"]}
            live = {v: path for v, path in disks.items() if qemu and v in qemu.disks}
            wanted = {v: path for v, path in live.items() if path and qemu.disks[v][1] != path}
            if wanted and self.refuse:
                raise Refused("as the test wants")
            if wanted:
                qemu.switch(wanted)
            if len(live) < len(disks):
                self.epoch[instance] = self.epoch.get(instance, 0) + 1
            return {"Live": bool(live)}
