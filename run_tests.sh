#!/usr/bin/env bash
# One command: installs, checks style, types and walls, and runs the tests, two files at a time. Arguments go to pytest
# (-n 0: one after the other); --long first: also the tests that take minutes each, one after the other.
set -uo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
. "$root/crossfade/install.sh"
cd "$root" || exit 1
export PATH="$root/.venv/bin:$PATH"
unset PYTHONDONTWRITEBYTECODE  # the tests start hundreds of processes: each would compile its libraries again
[ "${1-}" != --long ] || set -- -n 0 -m "long or not long" "${@:2}"
failed=()
check() { printf '== %s\n' "$*"; "$@" || failed+=("$1 ${2:-}"); }
check ruff format --check --quiet
check ruff check --quiet
check mypy --no-error-summary
check lint-imports --no-cache --no-logo
check python -m pytest -n 2 --dist loadfile "$@"
[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
