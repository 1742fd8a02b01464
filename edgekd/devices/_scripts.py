"""What has to be said to a shell of a device: scripts for ``sh``, and how they end.

Everything that varies is an argument of theirs; the folder is always the first.
"""

from __future__ import annotations

from edgekd.agent import keeper, locking, turns
from edgekd.agent.furnish import ASIDE
from edgekd.devices._device import KEPT_DAYS

NO_FILE, NO_ROOM, NO_PLACE, IN_USE = 44, 45, 46, 47
"""Exit codes of the scripts."""
MARK = ".edgekd"
"""In a folder that edgekd made itself, and may remove as a whole."""
_PART = f".{'[0-9a-f]' * 8}.part"
_HEX = "[0-9a-f]" * 16
_SENT = (
    _HEX,
    f"run-{_HEX}",
    *(f"{n}{p}" for n in (f"{_HEX}-agent.zip", f"run-{_HEX}-job.json") for p in ("", _PART)),
)
_VENV = f"venv-{'[0-9a-f]' * 12}"
NAMES = (*_SENT, f"{ASIDE}*", turns.LOCK)
"""Of all that edgekd puts into a folder, but for environments."""

# A folder of a person's own is no place for files that are removed by themselves: here, as only
# the device knows what links lead to.
_PLACE = (
    'h=$(cd "${HOME:-/}" && pwd -P); p=$(pwd -P); p=${p%/}; '
    f'case "$p:$h/" in :*|"$p:$p/"*) exit {NO_PLACE};; esac; '
)
ENTER = (
    f'umask 077; {{ test -d "$1" || {{ mkdir -p "$1" && : > "$1/{MARK}"; }}; }} && cd "$1" '
    f"|| exit {NO_ROOM}; {_PLACE}shift; "
)
# After each name its size. The numbers of what is not there whole; the time of what is says that
# it is in use.
HAS = (
    "d=$1; shift; n=0; while test $# -gt 1; do f=$d/$1; "
    'if test -f "$f" && test "$(wc -c < "$f")" -eq "$2"; then touch -c "$f"; else echo $n; fi '
    "2> /dev/null; shift 2; n=$((n + 1)); done"
)
RUN = f'{ENTER}exec "$@"'
FETCH = f'test -f "$1/$2" || exit {NO_FILE}; cat "$1/$2"'
# A link that is cut looks like the end of the file to `cat`: hence the size. A power cut leaves
# what was not written yet empty, under its name: hence `sync`, which not every system has for one
# file.
KEEP = (
    f'export LC_ALL=C; {ENTER}mkdir -p "$(dirname "$1")" && cat > "$2" && '
    'test "$(wc -c < "$2")" -eq "$3" && { sync "$2" 2> /dev/null || sync; } && mv "$2" "$1" '
    f'|| {{ rm -f "$2"; exit {NO_ROOM}; }}'
)
# Whether a file's lock can be had, with the Python where the system has no program for it. A file
# is locked as the standard input, as some shells close all others in what they run. A run that
# waits in line holds no lock but its own, on its events.
_LOCKS = (
    "try() { if command -v flock > /dev/null; then flock -n 0; "
    'else "$python" -c "import fcntl; fcntl.flock(0, 6)" 2> /dev/null; fi; test $? -ne 1; }; '
    f"live() {{ for log in ./run-{_HEX}/{keeper.EVENTS}; do "
    'test -f "$log" && ! try < "$log" && return 0; done; return 1; }; '
)
# A folder changes when a file of it goes, so its own turn comes later: nobody writes into it then.
# Environments are not read by edgekd alone, and reading leaves no trace: they stay; and so does
# the lock, which a run may hold. While a run lives nothing is old: the clock of a board without a
# battery is set by years once the network tells it the time, and what was sent before is in use.
SWEEP = (
    f'cd "$1" 2> /dev/null || exit 0; {_PLACE}shift; for file do rm -f "./$file"; '
    'case "$file" in */*) rmdir "./${file%/*}" 2> /dev/null;; esac; done; '
    f"python=python3; {_LOCKS}! live || exit 0; "
    f"set -- {' '.join(f'./{name}' for name in _SENT)}; "
    f'find "$@" -type f -mtime +{KEPT_DAYS} -exec rm -f {{}} + 2> /dev/null; '
    f'find "$@" -depth -type d -mtime +{KEPT_DAYS} -exec rmdir {{}} + 2> /dev/null; '
    f"find ./{ASIDE}* -prune -mtime +{KEPT_DAYS} -exec rm -rf {{}} + 2> /dev/null; exit 0"
)
# The second argument is the Python, the third says whether environments go as well. Whoever only
# asks who holds a lock has it for a moment, too. Clocks that a run which died left fixed are set
# back while there is an agent that can. A folder that was there before edgekd may hold anything:
# only what has edgekd's names goes.
CLEAR = (
    f'cd "$1" 2> /dev/null || exit 0; {_PLACE}python=$2; '
    f"{_LOCKS}"
    f"free() {{ ! test -f {turns.LOCK} || {{ exec 9< {turns.LOCK}; try <&9; }}; }}; "
    f"free || {{ sleep 1; free; }} || "
    f"{{ cat {turns.LOCK}; echo; cat /proc/uptime; exit {IN_USE}; }}; "
    f"! live || {{ sleep 1; ! live; }} || {{ echo; cat /proc/uptime; exit {IN_USE}; }}; "
    f'if test -f "$HOME/{locking.FOLDER}/{locking.FILE}" || test -f {locking.FILE}; then '
    f'for zip in ./{_HEX}-agent.zip; do "$python" "$zip" clocks < /dev/null; done > /dev/null 2>&1;'
    f' fi; all=$3; test "$all" = yes || ls -d ./{_VENV} > /dev/null 2>&1 || all=yes; '
    f'if test "$all" = yes && test -f {MARK} && ! test -f {locking.FILE}; then '
    'cd / && rm -rf "$p"; exit; fi; '
    f'if test "$all" = yes; then rm -rf ./{_VENV}; fi; '
    f"rm -rf {' '.join(f'./{name}' for name in NAMES)}"
)
