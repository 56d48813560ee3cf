#!/bin/sh
# Everything that make needs, once: the virtual environment, llama.cpp built with only what edged uses, a broker to talk to.
set -eu
cd "$(dirname "$0")/.."
venv=.venv
log=.run/setup.log
mkdir -p .run

say() { printf '%s\n' "$*" >&2; }
die() { say "setup: $*"; exit 1; }

# Run a long step with a dot every five seconds; its output goes to the log and is shown only if it fails.
step() {
    title=$1; shift
    printf '%s ' "$title" >&2
    "$@" >"$log" 2>&1 &
    pid=$!
    trap 'kill $pid 2>/dev/null; exit 130' INT TERM
    n=0
    while kill -0 $pid 2>/dev/null; do
        sleep 1; n=$((n + 1)); [ $((n % 5)) -ne 0 ] || printf '.' >&2
    done
    trap - INT TERM
    if wait $pid; then say " done (${n} s)"; else say " failed:"; tail -n 40 "$log" >&2; exit 1; fi
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null || die "there is no $python; install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "edged needs Python 3.11 or newer, $python is $("$python" -V)"

if [ ! -x "$venv/bin/python" ]; then
    step "virtual environment" "$python" -m venv "$venv"
fi

version=$(sed -n 's/.*"llama-cpp-python==\([0-9.]*\)".*/\1/p' pyproject.toml)
if ! "$venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('llama-cpp-python') != '$version')" 2>/dev/null; then
    command -v c++ >/dev/null || die "there is no C++ compiler (Debian: apt-get install g++)"
    # Only the library: no tools, no server, no image models.
    CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF"
    export CMAKE_ARGS
    step "llama-cpp-python $version from its source, some minutes" \
        "$venv/bin/python" -m pip install --disable-pip-version-check --no-binary llama-cpp-python "llama-cpp-python==$version"
fi

step "edged and what it needs" "$venv/bin/python" -m pip install --disable-pip-version-check -e '.[dev]'

missing=""
for tool in mosquitto mosquitto_pub curl; do
    PATH="$PATH:/usr/sbin" command -v $tool >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        step "mosquitto" sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mosquitto mosquitto-clients curl'
    else
        die "missing:$missing. Install them (Debian: sudo apt-get install mosquitto mosquitto-clients curl) and run make again"
    fi
fi
touch "$venv/.ready"
