#!/bin/sh
# lenet-edge on a board: ./run.sh verify | bench | predict IMAGE | serve | doctor | ... --help
# Needs Python 3.10 or later and one runtime: that of $PYTHON, of the wheels beside this, or python3's.
here=$(CDPATH= cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd) || exit
if [ -z "$PYTHON" ] && [ -d "$here/wheels" ]; then
  [ -e "$here/venv/complete" ] || sh "$here/install.sh" "$here/wheels" "$here/venv" || exit
  PYTHON=$here/venv/bin/python
fi
export PYTHONPATH="$here" LENET_EDGE_EXPORTED="$here/exported"
exec "${PYTHON:-python3}" -m lenet_edge "$@"
