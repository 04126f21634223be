"""Is a path on a network file system? SQLite's WAL and its locks are unsafe there."""

from __future__ import annotations

from pathlib import Path

NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "afs", "ceph", "glusterfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "9p", "panfs", "orangefs", "wekafs",
}  # fmt: skip


def is_network_mount(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """True if the file system holding `path` is a network one, as far as the system tells."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return False
    target = path.resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].encode().decode("unicode_escape"))
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind in NETWORK
