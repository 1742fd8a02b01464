"""What ssh says when it fails, as sentences that say what to do."""

from __future__ import annotations

import re

_SENTENCES = [  # (what ssh says, what it means); the first that is found
    (
        "HOST IDENTIFICATION HAS CHANGED|[Hh]ost key for .* has changed",
        "its host key is not the one that was known: it was set up anew, or something else answers "
        "in its place. If you know why, remove the old key (ssh-keygen -R {host}) and connect once "
        "by hand to check the new one: {ssh}",
    ),
    (
        "Host key verification failed|host key is known for",
        "its host key is not known yet. Connect once by hand, compare the fingerprint and accept "
        "it: {ssh}",
    ),
    (
        "Permission denied|Too many authentication failures",
        "it does not accept any key of yours, and passwords are not asked for here. Install a key "
        "(ssh-copy-id), or load it into your agent (ssh-add), until this works: {ssh} true",
    ),
    (
        "Connection refused",
        "nothing listens there. Start its ssh server, or give the right port: ssh://user@host:port",
    ),
    (
        "Could not resolve hostname",
        "there is no host of this name. Check the spelling, or give its IP address.",
    ),
    (
        "No route to host|Network is unreachable|timed out|Connection closed by|Connection reset",
        "it cannot be reached or does not answer. Check that it is on, the address and the "
        "network, until this works: {ssh} true",
    ),
    (
        "Bad configuration option|Bad owner or permissions|terminating, .* bad configuration",
        "ssh refuses its own configuration. Mend that file.",
    ),
]


def refusal(said: str, host: str, ssh: str) -> str:
    """Why ssh could not do it.

    Args:
        said: its standard error.
        host: the machine's name or address.
        ssh: the command a person would type to get there.
    """
    words = " ".join(re.sub(r"@{3,}", " ", said).split())
    for pattern, sentence in _SENTENCES:
        if re.search(pattern, words):
            return f"{sentence.format(host=host, ssh=ssh)} ssh said: {words[-300:]}"
    return (
        "the connection was lost on the way. What runs there ends by itself, and what was sent is "
        "still there: see that the device and the network are up, and try again. ssh said: "
        f"{words[-300:] or 'nothing'}"
    )
