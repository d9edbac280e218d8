# Installs the environment in .venv from requirements.lock; sourced by start_local.sh and run_tests.sh, which set `root`.
# Without network and at once when .venv is what the lock says already. Needs Python 3.11 or newer and a package index.

say() { printf '%s\n' "$*" >&2; }
fail() { say "" "Crossfade cannot start: $*"; exit 1; }

stamp() { printf '%s\n' "$root"; cat "$root/pyproject.toml" "$root/requirements.lock"; }

find_python() {
  local name
  for name in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  fail "Python 3.11 or newer was not found. Install it (Debian, Ubuntu: apt install python3.11 python3.11-venv;" \
    "macOS: brew install python; any system: python.org), or name one: PYTHON=/path/to/python ./start_local.sh"
}

# uv takes the index, proxy and certificates that pip is configured with.
as_pip_is_configured() {
  local config key value
  config=$("$root/.venv/bin/python" -m pip config list 2>/dev/null) || true
  for key in index-url extra-index-url find-links trusted-host cert timeout no-index; do
    value=$(sed -nE "s/^(:env:|global|install|user|site)\.(default-)?$key='(.*)'\$/\3/p" <<<"$config" | head -n 1)
    [ -n "$value" ] || continue
    case $key in
      index-url) export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$value} ;;
      extra-index-url) export UV_INDEX=${UV_INDEX:-$value} ;;
      find-links) [ ! -e "$value" ] || export UV_FIND_LINKS=${UV_FIND_LINKS:-$value} ;;
      trusted-host) export UV_INSECURE_HOST=${UV_INSECURE_HOST:-$value} ;;
      cert) export SSL_CERT_FILE=${SSL_CERT_FILE:-$value} ;;
      timeout) export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-$value} ;;
      no-index) export UV_NO_INDEX=1 ;;
    esac
  done
  export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1} UV_NO_CONFIG=1
}

# step "What is done" COMMAND...: one line that counts the seconds in a terminal, two plain lines elsewhere.
step() {
  local what=$1 began=$SECONDS log=$root/.venv/install.log status=0 pid
  shift
  "$@" >"$log" 2>&1 &
  pid=$!
  [ -t 2 ] || say "$what ..."
  while kill -0 "$pid" 2>/dev/null; do
    [ ! -t 2 ] || printf '\r%s ... %d s, %s MB ' "$what" $((SECONDS - began)) "$(du -sm "$root/.venv" 2>/dev/null | cut -f1)" >&2
    sleep 0.5
  done
  wait "$pid" || status=$?
  [ ! -t 2 ] || printf '\r\033[K' >&2
  [ "$status" -eq 0 ] || { tail -n 20 "$log" >&2; return "$status"; }
  say "$what: done in $((SECONDS - began)) s"
}

install() {
  local python uv network
  network="See the lines above. Is there a network? An index of your own is taken from pip's configuration (PIP_INDEX_URL),
a proxy from HTTPS_PROXY, certificates from SSL_CERT_FILE. About 1.5 GB of disk are needed."
  [ ! -L "$root/.venv" ] || fail ".venv is a link to $(readlink "$root/.venv"). Installing would empty what it points to;" \
    "nothing was changed. Remove the link (rm .venv) and start again: each checkout has an environment of its own."
  python=$(find_python) || exit 1
  say "Installing into .venv with $("$python" -V) ($python)"
  if ! "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1 || [ "$(head -n 1 "$root/.venv/stamp" 2>/dev/null)" != "$root" ]; then
    "$python" -m venv --clear "$root/.venv" >&2 ||
      fail "'$python -m venv' does not work. On Debian and Ubuntu: apt install $(basename "$python")-venv"
  fi
  rm -f "$root/.venv/stamp"
  as_pip_is_configured
  awk '/^[^ ]/ { on = /^uv==/ } on' "$root/requirements.lock" >"$root/.venv/uv.lock"
  step "uv, the installer" "$root/.venv/bin/python" -m pip install --disable-pip-version-check --require-hashes -r "$root/.venv/uv.lock" ||
    fail "$network"
  uv=$root/.venv/bin/uv
  step "$(grep -c '^[^ #]' "$root/requirements.lock") packages, each checked against its hash" \
    "$uv" pip sync --require-hashes --python "$root/.venv/bin/python" "$root/requirements.lock" || fail "$network"
  step "Crossfade itself" "$uv" pip install --offline --no-deps --no-build-isolation --python "$root/.venv/bin/python" -e "$root" ||
    fail "the project could not be installed; see the lines above"
  stamp >"$root/.venv/stamp"
}

stamp | cmp -s - "$root/.venv/stamp" || (install) || exit 1
