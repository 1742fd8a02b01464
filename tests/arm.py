"""A board of another architecture without a board: Debian for aarch64 under qemu-user, behind sshd.

What it needs: root, and on Debian ``apt-get install --no-install-recommends qemu-user-static
mmdebstrap bubblewrap openssh-server openssh-client``. Its files (250 MB: a root file system from
Debian's mirror, wheels from the package index) are fetched once and kept in a folder of the name
``EDGEKD_TESTS_CACHE``, or in ``~/.cache/edgekd-tests``.

Answers can be compared there, and times cannot: a run takes some hundred times as long.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.edge_env import DISTRIBUTIONS
from tests.sshd import CLIENT, SSHD, Server, serving

CPU = "cortex-a76"
"""The emulated one: a Raspberry Pi 5's."""
SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = (
    "base-files,bash,dash,coreutils,util-linux,tar,gzip,findutils,grep,sed,procps,"
    "python3,libgomp1,libstdc++6"
)
WHEELS = "manylinux_2_28_aarch64"
SITE = f"usr/local/lib/python{PYTHON}/dist-packages"
QEMU, BWRAP, MMDEBSTRAP = map(shutil.which, ("qemu-aarch64-static", "bwrap", "mmdebstrap"))
# How the kernel knows a program for aarch64: the head of an ELF file for machine 183 (0xb7), of
# which the bytes that vary are masked. Debian's qemu-user-static has the same in binfmt.d.
MAGIC = rb"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)
CORE = (
    f"BogoMIPS\t: 108.00\nFeatures\t: {FEATURES}\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n"
)


def lacking() -> str:
    """Why there can be no such device on this machine; empty where there can."""
    programs = {"qemu-user-static": QEMU, "bubblewrap": BWRAP, "mmdebstrap": MMDEBSTRAP}
    programs |= {"openssh-server": SSHD, "openssh-client": CLIENT}
    missing = [package for package, found in programs.items() if found is None]
    if missing:
        return f"an emulated ARM device needs {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "an emulated ARM device needs root, to mount and register"


def cache_folder() -> Path:
    """Where fetched files are kept."""
    named = os.environ.get("EDGEKD_TESTS_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "edgekd-tests"


@contextmanager
def arm_device(folder: Path, cache: Path) -> Iterator[Server]:
    """An aarch64 machine behind a server, for as long as the block lasts; then all is undone.

    Args:
        folder: for what this device alone has: keys, home folder, descriptions of its hardware.
        cache: for what all such devices share and only read.
    """
    root, site = root_files(cache), wheels(cache)
    _describe_hardware(folder, os.cpu_count() or 1)
    (folder / "tmp").mkdir()
    with _emulating(folder / "binfmt"), serving(folder) as server:
        enter = folder / "enter"  # what the server has every session run
        enter.write_text(_enter(folder, root, site))
        yield server


def root_files(cache: Path) -> Path:
    """The root of Debian's files for aarch64; unpacked only, so that nothing has to run for it."""
    recipe = f"{SUITE} {PACKAGES} {SITE}"
    target = cache / f"arm64-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if target.is_dir():
        return target
    with _building(target) as part:
        wanted = [f"--include={PACKAGES}", "--variant=extract", "--arch=arm64", "--quiet"]
        _run([str(MMDEBSTRAP), *wanted, SUITE, str(part)])
        for place in ("proc", "sys", "dev", "tmp", "root", SITE):  # to mount something upon
            (part / place).mkdir(parents=True, exist_ok=True)
        (part / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (part / "etc/group").write_text("root:x:0:\n")
    return target


def wheels(cache: Path) -> Path:
    """The wheels for aarch64 of the releases of numpy and ONNX Runtime installed here, unpacked."""
    wanted = [f"{name}=={version(name)}" for name in DISTRIBUTIONS]
    target = cache / "-".join([WHEELS, PYTHON, *wanted])
    if target.is_dir():
        return target
    with _building(target) as part:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--implementation=cp"]
        options += [f"--platform={WHEELS}", f"--python-version={PYTHON}", f"--dest={part}"]
        _run([sys.executable, "-m", "pip", "download", *options, *wanted])
        for wheel in part.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(part)
            wheel.unlink()
    return target


@contextmanager
def _building(target: Path) -> Iterator[Path]:
    """A folder that gets its name when it is complete; what was cut off is made again."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        if not target.is_dir():  # another process may have been quicker
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _emulating(mount: Path) -> Iterator[None]:
    """Have the kernel start programs for aarch64 in qemu.

    Under a name of its own, so that an entry of the system's is left as it is, and through a mount
    of its own, so that it does not matter whether the system has one. The flags: O and C hand the
    program over as it is, F opens qemu now, because the device's root has none.
    """
    name = f"edgekd-aarch64-{os.getpid()}"
    mount.mkdir()
    _run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(mount)])
    try:
        line = b":%s:M::%s:%s:%s:OCF" % (name.encode(), MAGIC, MASK, str(QEMU).encode())
        (mount / "register").write_bytes(line)
        try:
            yield
        finally:
            (mount / name).write_text("-1")
    finally:
        _run(["umount", str(mount)])


def _describe_hardware(folder: Path, count: int) -> None:
    """``/proc/cpuinfo`` and ``/sys`` of a small board with as many cores as there are here.

    ONNX Runtime looks which CPU it is on, and ends with a segmentation fault under qemu 7.2 if it
    reads that of this machine.
    """
    cores = [f"processor\t: {number}\n{CORE}\n" for number in range(count)]
    (folder / "cpuinfo").write_text("".join(cores))
    files = {f"devices/system/cpu/{name}": f"0-{count - 1}" for name in ("possible", "present")}
    for number in range(count):
        core = f"devices/system/cpu/cpu{number}"
        files[f"{core}/topology/thread_siblings_list"] = str(number)
        files[f"{core}/cpufreq/scaling_governor"] = "ondemand"
        files[f"{core}/cpufreq/scaling_cur_freq"] = "1500000"
        files[f"{core}/cpufreq/cpuinfo_max_freq"] = "2400000"
    files |= {"class/thermal/thermal_zone0/type": "cpu-thermal"}
    files |= {"class/thermal/thermal_zone0/temp": "48300"}
    for name, text in files.items():
        file = folder / "sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


def _enter(folder: Path, root: Path, site: Path) -> str:
    """The script that leads into the device.

    What is started there goes on when its session ends, as on a machine: so processes are not put
    into a namespace that would end with it.
    """
    looked_at = {folder / "cpuinfo": "/proc/cpuinfo", folder / "sys": "/sys", site: f"/{SITE}"}
    changed = {folder / "home": "/root", folder / "tmp": "/tmp"}
    mounts = ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev"]
    mounts += [word for at in looked_at.items() for word in ("--ro-bind", *map(str, at))]
    mounts += [word for at in changed.items() for word in ("--bind", *map(str, at))]
    inside = ["--unshare-uts", "--hostname", "edge-arm64", "--chdir", "/root", "/bin/sh", "-c"]
    variables = ["PATH=/usr/bin:/bin", "HOME=/root", "LANG=C.UTF-8", f"QEMU_CPU={CPU}"]
    words = shlex.join(["env", "-i", *variables, str(BWRAP), *mounts, *inside])
    return (
        f"#!/bin/sh\nprintf '%s\\0' \"$SSH_ORIGINAL_COMMAND\" >> {folder}/commands\n"
        f'exec {words} "exec $SSH_ORIGINAL_COMMAND"\n'
    )


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr[-2000:]}"
