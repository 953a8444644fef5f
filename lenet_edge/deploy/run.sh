#!/bin/sh
# lenet-edge on a board: ./run.sh verify | bench | predict IMAGE | serve | doctor | ... --help
# Needs Python 3.10 or later with a runtime: $PYTHON, a venv of the wheels in this folder, or python3.
folder=$(CDPATH= cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd) || exit
if [ -z "$PYTHON" ] && [ -d "$folder/wheels" ]; then
  [ -e "$folder/venv/complete" ] || sh "$folder/install.sh" "$folder/wheels" "$folder/venv" || exit
  PYTHON=$folder/venv/bin/python
fi
export LENET_EDGE_EXPORTED="$folder/exported"
# Import nothing from the working folder, which -c puts on the path as an empty name.
exec "${PYTHON:-python3}" -c "import sys
sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]
from lenet_edge.cli import main
main(prog_name='lenet-edge')" "$folder" "$@"
