#!/usr/bin/env bash
# One command: installs, starts every stage on this machine, opens http://localhost:8000. Arguments go to `crossfade run`.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
. "$root/crossfade/install.sh"
exec "$root/.venv/bin/crossfade" run "$@"
