#!/bin/sh
# lenet-edge on a board: ./run.sh verify | bench | predict IMAGE | serve | doctor | ... --help
# Needs Python 3.10 or later and one runtime: that of $PYTHON, of the wheels beside this, or python3's.
here=$(CDPATH= cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd) || exit
if [ -z "$PYTHON" ] && [ -d "$here/wheels" ]; then
  [ -e "$here/venv/complete" ] || sh "$here/install.sh" "$here/wheels" "$here/venv" || exit
  PYTHON=$here/venv/bin/python
fi
export LENET_EDGE_EXPORTED="$here/exported"
# Not -m, which would look for the package in the working folder first.
exec "${PYTHON:-python3}" -c "import sys
sys.path[0] = sys.argv.pop(1)
from lenet_edge.cli import main
main(prog_name='lenet-edge')" "$here" "$@"
