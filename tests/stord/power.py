"""A disk whose power can be cut: an ext4 on a loop device over a FUSE file of qemu-storage-daemon, which logs each write and each flush.

What a program wrote and did not sync is in the page cache of the mounted file system and was never on the disk. What the disk had is
what the log has (QEMU's blklogwrites, in the format of the kernel's dm-log-writes), and after a cut the disk is made of it: all writes
up to the last flush, and of those after it all, or only some, as a disk has it that keeps a cache of its own.
"""
import os
import shutil
import signal
import struct
import subprocess
import tempfile

from conftest import until

SECTOR = 512
FLUSH, DISCARD = 1, 4
TMPFS = "/dev/shm"


def why_not():
    """Why a power cut cannot be had here; None: it can."""
    missing = [t for t in ("mke2fs", "qemu-storage-daemon", "mount", "umount") if not shutil.which(t)]
    if missing:
        return f"{', '.join(missing)} is not here"
    if os.geteuid() != 0:
        return "mounting needs root"
    if not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
        return "FUSE and loop devices are needed"
    if "ext4" not in open("/proc/filesystems").read().split():
        return "the kernel has no ext4"
    return None


class Disk:
    def __init__(self, mountpoint, mib=512):
        self.root, self.mountpoint = tempfile.mkdtemp(prefix="gureum-disk-", dir=TMPFS if os.path.isdir(TMPFS) else None), mountpoint
        self.kept, self.live, self.log, self.export = (os.path.join(self.root, n) for n in ("kept", "live", "log", "export"))
        self.process, self.base = None, mib << 20
        with open(self.kept, "wb") as f:
            f.truncate(self.base)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", self.kept], check=True)
        os.makedirs(mountpoint, exist_ok=True)

    def on(self):
        subprocess.run(["cp", "--sparse=always", self.kept, self.live], check=True)
        with open(self.log, "wb") as f:
            f.truncate(64 << 30)
        open(self.export, "ab").close()
        self.process = subprocess.Popen(
            ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=live,filename={self.live}",
             "--blockdev", f"driver=file,node-name=log,filename={self.log}",
             "--blockdev", f"driver=blklogwrites,node-name=disk,file=live,log=log,log-sector-size={SECTOR}",
             "--export", f"type=fuse,id=disk,node-name=disk,mountpoint={self.export},writable=on"])
        until(lambda: self.process.poll() is not None or os.path.getsize(self.export))
        assert self.process.poll() is None
        # noauto_da_alloc: ext4 does not make up for a rename without an fsync.
        subprocess.run(["mount", "-o", "loop,noauto_da_alloc", self.export, self.mountpoint], check=True)

    def off(self):
        """After a cut, or for good: nothing is kept of what is written from here on."""
        if os.path.ismount(self.mountpoint):
            until(lambda: subprocess.run(["umount", self.mountpoint], capture_output=True).returncode == 0)
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def cut(self, end_all, is_kept):
        """Now. `end_all` ends whoever uses the disk; is_kept(): whether a write after the last flush is on it."""
        self.process.send_signal(signal.SIGSTOP)
        until(lambda: all(self.state(t) in "tT" for t in os.listdir(f"/proc/{self.process.pid}/task")))
        self.rebuild(list(self.entries()), is_kept)
        end_all.kill()
        self.process.send_signal(signal.SIGCONT)
        end_all.wait()
        self.off()

    def state(self, thread):
        with open(f"/proc/{self.process.pid}/task/{thread}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0]

    def entries(self):
        """(sector, n_sectors, flags, offset of the data in the log) in their order."""
        with open(self.log, "rb") as f:
            at = 1
            while True:
                f.seek(at * SECTOR)
                sector, n_sectors, flags, _ = struct.unpack("<4Q", f.read(32))
                if n_sectors == 0 and flags == 0:
                    return
                yield sector, n_sectors, flags, (at + 1) * SECTOR
                at += 1 + (0 if flags & DISCARD else n_sectors)

    def rebuild(self, entries, is_kept):
        flushed = max((i for i, e in enumerate(entries) if e[2] & FLUSH), default=-1)
        with open(self.log, "rb") as log, open(self.kept, "r+b") as kept:
            for i, (sector, n_sectors, flags, data) in enumerate(entries):
                if flags & DISCARD or n_sectors == 0 or (i > flushed and not is_kept()):
                    continue  # what is discarded may be read as it was
                log.seek(data)
                kept.seek(sector * SECTOR)
                kept.write(log.read(n_sectors * SECTOR))

    def close(self):
        self.off()
        shutil.rmtree(self.root)
