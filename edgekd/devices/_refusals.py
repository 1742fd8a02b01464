"""What ssh says when it fails, as sentences that say what to do."""

from __future__ import annotations

import re

_SENTENCES = [  # (what ssh says, what it means, may it pass); the first that is found
    (
        "HOST IDENTIFICATION HAS CHANGED|[Hh]ost key for .* has changed",
        "its host key is not the one that was known: it was set up anew, or something else answers "
        "in its place. If you know why, remove the old key (ssh-keygen -R {host}) and connect once "
        "by hand to check the new one: {ssh}",
        False,
    ),
    (
        "Host key verification failed|host key is known for",
        "its host key is not known yet. Connect once by hand, compare the fingerprint and accept "
        "it: {ssh}",
        False,
    ),
    (
        "Permission denied|Too many authentication failures",
        "it does not accept any key of yours, and passwords are not asked for here. Install a key "
        "(ssh-copy-id), or load it into your agent (ssh-add), until this works: {ssh} true",
        False,
    ),
    (
        "Connection refused",
        "nothing listens there. Start its ssh server, or give the right port: ssh://user@host:port",
        True,
    ),
    (
        "Could not resolve hostname",
        "there is no host of this name. Check the spelling, or give its IP address.",
        True,
    ),
    (
        "No route to host|Network is unreachable|timed out|Connection closed by|Connection reset",
        "it cannot be reached or does not answer. Check that it is on, the address and the "
        "network, until this works: {ssh} true",
        True,
    ),
    (
        "Bad configuration option|Bad owner or permissions|terminating, .* bad configuration",
        "ssh refuses its own configuration. Mend that file.",
        False,
    ),
]


_PLACES = [  # (what a system says that cannot write, what it means)
    ("No space left|quota exceeded", "the disk of {folder} is full. Make room there, or name"),
    ("Read-only file system", "{folder} is on a disk that cannot be written to. Name"),
    ("", "{folder} cannot be written to. Name"),
]


def unwritable(said: str, folder: str) -> str:
    """Why a folder of a device cannot take a file, and the way out.

    Args:
        said: what the system there said.
        folder: where files should have gone.
    """
    sentence = next(words for pattern, words in _PLACES if re.search(pattern, said))
    return (
        f"{sentence.format(folder=folder)} a folder in another place: edgekd device add NAME "
        f"ADDRESS --folder /other/place. It said: {said[-300:] or 'nothing'}"
    )


def colon(folder: str) -> str:
    """Why a folder's name cannot hold a colon."""
    return (
        f"the device's folder is {folder!r}; a colon parts folders from each other where Python "
        "looks for modules, so that it cannot be in the name. Name another one."
    )


def shared(folder: str) -> str:
    """Why a folder with everything of a person cannot be the one of edgekd's files."""
    return (
        f"the folder {folder} is the home folder there, or holds it; expected one for edgekd "
        "alone, such as ~/.cache/edgekd-agent or /data/edgekd (edgekd device add NAME ADDRESS "
        "--folder)."
    )


def flooded(name: str) -> str:
    """Why a device is not listened to any longer."""
    return (
        f"{name} said more than anything edgekd runs there would say, and was hung up on. See that "
        "its shell's start-up files print nothing, and that the Python there is the one you mean."
    )


def unanswered(name: str, failed: str, limit: float, said: str) -> str:
    """Why a device is not waited for any longer.

    Args:
        name: the device.
        failed: what could not be done for it.
        limit: seconds that it was waited for.
        said: what came on the standard error.
    """
    heard = f" It said: {said[-300:]}" if said else ""
    return (
        f"{name} did not answer within {limit:g} s: {failed}. See that it is on, is not busy with "
        "something else and that the network is up; log in by hand to see where that hangs, then "
        f"try again.{heard}"
    )


def others(name: str, holder: str) -> str:
    """Why a device cannot be cleared.

    Args:
        name: the device.
        holder: a sentence on who holds it.
    """
    return f"{name}: {holder}. Nothing was removed, as that would end it: clean up later."


def refusal(said: str, host: str, ssh: str) -> tuple[str, bool]:
    """Why ssh could not do it, and whether it may be able to later, by itself.

    Args:
        said: its standard error.
        host: the machine's name or address.
        ssh: the command a person would type to get there.
    """
    words = " ".join(re.sub(r"@{3,}", " ", said).split())
    for pattern, sentence, passes in _SENTENCES:
        if re.search(pattern, words):
            return f"{sentence.format(host=host, ssh=ssh)} ssh said: {words[-300:]}", passes
    return (
        "the connection was lost on the way. What runs there ends by itself, and what was sent is "
        "still there: see that the device and the network are up, and try again. ssh said: "
        f"{words[-300:] or 'nothing'}"
    ), True
