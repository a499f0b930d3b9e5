# Shared by the measurements: builds, starts a daemon of N workers in a home of its own, and ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
images=/usr/share/datasets/fashion-mnist
if [ -z "${ACCRUE_BIN:-}" ]; then
  swift build -c release --product accrue >&2
  swift build -c release --product accrue-engine >&2
  ACCRUE_BIN=$(swift build -c release --show-bin-path)
fi
accrue="$ACCRUE_BIN/accrue"
home='' daemon=''

# start WORKERS
start() {
  home=$(mktemp -d /tmp/accrue-bench.XXXXXX)
  export ACCRUE_CONNECT="ipc://$home/run/control.sock"
  mkfifo "$home/ready"
  "$accrue" serve --home "$home" --workers "$1" >"$home/ready" 2>"$home/log" &
  daemon=$!
  local line
  read -r line <"$home/ready" || { cat "$home/log" >&2; exit 1; }
}

stop() {
  if [ -n "$daemon" ]; then kill -TERM "$daemon" 2>/dev/null && wait "$daemon" || true; fi
  [ -z "$home" ] || rm -rf "$home"
  daemon='' home=''
}
trap stop EXIT

# push PIPELINE ROWS [MORE…]
push_training() {
  "$accrue" push "$1" --tensor inputs=$images/train-images-idx3-ubyte.gz --tensor targets=$images/train-labels-idx1-ubyte.gz --rows-per-chunk 6000 --rows "$2" "${@:3}"
}

machine() { printf 'machine: %s, %s processors, load %s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)" "$(cut -d' ' -f1 /proc/loadavg)"; }
