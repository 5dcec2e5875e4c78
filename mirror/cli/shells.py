"""What the completion scripts of the shells add to shtab's: asking this program for the names in a store."""

from __future__ import annotations

import argparse
from typing import TypeVar

A = TypeVar("A", bound=argparse.Action)

_BASH = """\
_mirror_words() {
  command mirror completion --words "$1" "$2" "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null
}
%s
# No space after a folder.
_mirror_completion() {
  _shtab_mirror "$@"
  [[ ${#COMPREPLY[@]} = 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace 2>/dev/null
  return 0
}
"""
_ZSH = """\
_mirror_words() {
  local -a found folders
  found=("${(@f)$(command mirror completion --words $1 "$PREFIX" "${(@Q)${(z)LBUFFER}}" 2>/dev/null)}")
  folders=(${(M)found:#*/})
  found=(${found:#*/})
  (( $#folders )) && compadd -S '' -a folders
  (( $#found )) && compadd -a found
}
%s
"""
_FISH = """\
function _mirror_words
  set -l token (commandline -ct)
  command mirror completion --words $argv[1] "$token" (commandline -opc)[2..-1] 2>/dev/null
end
"""
_KINDS = ("selectors", "workspaces", "snapshots", "sides", "documents", "parts", "kinds")
PREAMBLES = {
    "bash": _BASH % "\n".join(f'_mirror_words_{kind}() {{ _mirror_words {kind} "$1"; }}' for kind in _KINDS),
    "zsh": _ZSH % "\n".join(f"_mirror_words_{kind}() {{ _mirror_words {kind} }}" for kind in _KINDS),
    "fish": _FISH,
}
# What follows shtab's script.
ENDS = {"bash": "\ncomplete -o bashdefault -F _mirror_completion mirror\n"}


def offered(action: A, kind: str) -> A:
    """`action`, whose values shells complete with names of this kind; see `mirror.completion`."""
    name = f"_mirror_words_{kind}"
    action.complete = {"bash": name, "zsh": name, "fish": f"(_mirror_words {kind})"}  # type: ignore[attr-defined]
    return action
