#!/bin/sh
# Make a virtual environment of a folder of wheels, without an index: sh install.sh WHEELS VENV
# pip comes as one of the wheels and does not stay. A venv that is whole holds a file `complete`.
set -eu
folder=$1 venv=$2
set --
for wheel in "$folder"/*.whl; do
  case ${wheel##*/} in
    pip-*) pip=$wheel ;;
    numpy-*) numpy=own; set -- "$@" "$wheel" ;;
    *) set -- "$@" "$wheel" ;;
  esac
done
rm -rf "$venv"
# There are no wheels of NumPy for 32-bit Arm: there it is the system's.
more=--system-site-packages
[ -z "${numpy-}" ] || more=
"${PYTHON3:-python3}" -m venv --without-pip $more "$venv"
"$venv/bin/python" "$pip/pip" install --no-index --no-deps --no-cache-dir --no-compile \
  --disable-pip-version-check --root-user-action ignore --quiet "$@"
# What nothing runs, 9 MB: NumPy's tests, headers, type stubs.
find "$venv/lib" -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +
find "$venv/lib" -type f \( -name '*.pyi' -o -name '*.a' \) -exec rm -f {} +
sync
: > "$venv/complete"
