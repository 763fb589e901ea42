#!/usr/bin/python3
"""The Debian VM of build-vm under QEMU: TCG that emulates AMD SVM, so that its /dev/kvm is real.

One CPU (its kernel panics with two), 4 GB. Commands go through a root shell on a virtio console; its port PORT (4566
inside) is forwarded from loopback, and nothing else of it has a way out.
"""
import base64
import os
import socket
import subprocess
import time
import uuid


class VM:
    def __init__(self, image_dir, run_dir, port, payload):
        """image_dir: vmlinuz, initrd.gz, disk.qcow2 of build-vm. payload: a raw disk shown as /dev/vdb."""
        self.images, self.run = os.path.abspath(image_dir), os.path.abspath(run_dir)
        self.port, self.payload = port, payload
        os.makedirs(self.run, exist_ok=True)
        self.console = os.path.join(self.run, "console.log")
        self.shell = os.path.join(self.run, "shell.sock")
        self.process = None

    def start(self):
        disk = os.path.join(self.run, "disk.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
                        os.path.join(self.images, "disk.qcow2"), disk], check=True)
        append = ("console=ttyS0 quiet mitigations=off nowatchdog random.trust_cpu=on tsc=reliable "
                  "clocksource=tsc panic=1")
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1",
             "-m", "4096", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-kernel", os.path.join(self.images, "vmlinuz"), "-initrd", os.path.join(self.images, "initrd.gz"),
             "-append", append, "-device", "virtio-rng-pci",
             "-drive", f"if=none,id=d,format=qcow2,cache=unsafe,file={disk}", "-device", "virtio-blk-pci,drive=d",
             "-drive", f"if=none,id=p,format=raw,readonly=on,file={self.payload}", "-device", "virtio-blk-pci,drive=p",
             "-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:4566",
             "-device", "virtio-net-pci,netdev=n",
             "-serial", f"file:{self.console}", "-device", "virtio-serial-pci",
             "-chardev", f"socket,id=c,server=on,wait=off,path={self.shell}", "-device", "virtconsole,chardev=c"],
            stdin=subprocess.DEVNULL)
        self.wait_forward()

    def wait_forward(self):
        """QEMU listens on our port; it has ended if somebody took it meanwhile."""
        while self.process.poll() is None:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise ChildProcessError("QEMU ended at once")

    def sh(self, command, timeout=300):
        """Runs a shell command as root inside; returns (status, output). status 124: no answer in time."""
        mark = uuid.uuid4().hex
        coded = base64.b64encode(command.encode()).decode()
        # The mark is sent in two halves, so that an echo of the line cannot be taken for its end.
        line = f'bash -c "$(echo {coded}|base64 -d)" </dev/null 2>&1; echo {mark[:9]}""{mark[9:]}=$?\n'
        end, seen = time.monotonic() + timeout, b""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.shell)
            s.settimeout(2)
            s.sendall(line.encode())
            while time.monotonic() < end:
                try:
                    some = s.recv(65536)
                except socket.timeout:
                    continue
                if not some:
                    break
                seen += some
                at = seen.find((mark + "=").encode())
                if at >= 0 and seen.find(b"\n", at) >= 0:
                    status = int(seen[at + len(mark) + 1:seen.find(b"\n", at)])
                    return status, seen[:at].decode("utf-8", "replace")
        return 124, seen.decode("utf-8", "replace")

    def must(self, command, timeout=300):
        status, output = self.sh(command, timeout)
        if status != 0:
            raise RuntimeError(f"{command!r} ended with {status}:\n{output}")
        return output

    def wait_shell(self, timeout=900):  # for what hangs: an emulated machine beside other work is slow
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if self.sh("true", 3)[0] == 0:
                    return
            except OSError:
                time.sleep(0.5)  # the socket is there once QEMU runs
        raise RuntimeError("the VM gave no shell; the end of its console:\n" + self.console_tail())

    def console_tail(self, n=3000):
        try:
            with open(self.console, "rb") as f:
                return f.read()[-n:].decode("utf-8", "replace")
        except FileNotFoundError:
            return "(no console)"

    def poweroff(self, timeout=300):
        """Powers off as a user would; kills what does not end. Returns whether it ended by itself."""
        self.sh("systemctl poweroff", 3)
        try:
            self.process.wait(timeout)
            return True
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
