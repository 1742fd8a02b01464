"""Deploy an exported artifact as it was measured on a device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekd.artifact import Artifact, is_artifact
from edgekd.cards import card_of
from edgekd.claims import claim_name
from edgekd.deploy import Bundle, Measured, bundle
from edgekd.errors import EdgeKDError, UsageError
from edgekd.files import read_json
from edgekd.flow.proving import FOLDER, Proof, read
from edgekd.hiding import nickname
from edgekd.watching import Silent, Watch


def deploy(
    path: Path, out: Path | None = None, device: str | None = None, watch: Watch | None = None
) -> tuple[Bundle, Measured | None]:
    """Write a folder or a tarball that runs an artifact without edgekd.

    Args:
        path: the artifact's folder.
        out: where to; ``PATH-deploy`` unless given.
        device: whose proof says how the model is to run; needed only where there are several.
        watch: told what is not known.

    Raises:
        UsageError: the artifact is a network; there is no proof for the device, or there are
            several and none is named; ``out`` holds something else.
        ArtifactError: ``path`` is no artifact, or one that was changed, or whose manifest
            contradicts its model.
    """
    inner = path / "artifact"
    if not is_artifact(path) and is_artifact(inner):
        raise UsageError(f"{path} is a run, which holds an artifact. Use: edgekd deploy {inner}")
    artifact, watch = Artifact.open(path), watch or Silent()
    measured = None
    if artifact.manifest["kind"] != "network":  # which bundle refuses
        measured = _measured(artifact, device, watch)
    out = out or _beside(path)
    with claim_name(out, "deploy"):
        return bundle(artifact, card_of(path), out, measured), measured


def _beside(path: Path) -> Path:
    """``PATH-deploy``, also of ``.`` and of ``..``, which have no name to put it to."""
    whole = path.resolve()
    named = whole if path.name in ("", "..") else path
    return named.with_name(f"{whole.name}-deploy")


def _measured(artifact: Artifact, device: str | None, watch: Watch) -> Measured | None:
    """How it was measured on the device that is meant; None where nowhere."""
    path = artifact.path
    if device is None:
        proofs = _proofs(path, watch)
        if not proofs:
            watch.say(
                f"{path} was not measured: the runtime's threads are left to it. To pin them, run "
                f"edgekd profile {path} --device NAME, then deploy again"
            )
            return None
        if len(proofs) > 1:
            names = " or ".join(sorted(proof.device for proof in proofs))
            raise UsageError(
                f"{path} was measured on several devices. Say whose runtime and threads it is to "
                f"have: --device {names}"
            )
        (proof,) = proofs
    else:
        proof = read(path, _name(path, device))
    measured = Measured.of(proof.record)
    measured.check_for(artifact.manifest["kind"], proof.model_sha256, proof.record)
    return measured


def _proofs(path: Path, watch: Watch) -> list[Proof]:
    """Those of this very artifact; of another one that was here before, a sentence."""
    found = []
    for name in _names(path):
        try:
            found.append(read(path, name))
        except EdgeKDError as error:
            watch.say(f"left out: {error}")
    return found


def _names(path: Path) -> Sequence[str]:
    """Devices there are proofs for, damaged ones by their file's name."""
    names = []
    for file in sorted((path / FOLDER).glob("*.json")):
        try:
            names.append(str(read_json(file)["device"]))
        except (OSError, ValueError, KeyError, TypeError):
            names.append(file.stem)
    return names


def _name(path: Path, device: str) -> str:
    """The name that records have for a device; an address may be longer than that."""
    if nickname(device) in _names(path):
        return nickname(device)
    from edgekd.devices import reach

    return reach(device).name
