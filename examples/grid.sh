# Read by the examples' run.sh: finds the programs, and a grid to run on.
# SOUK_BIN: folder with souk and the examples' programs; default: build/release/bin of this repository, else where souk is in PATH.
# SOUK_DIR: state folder of the grid; default: ~/.souk. If no grid runs there, a private one in a temporary folder is started, and stopped after.

set -eu
repository=$(cd "$(dirname "$0")/../.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$(dirname "$0")"): $*"; exit 2; }

need_program() {  # NAME: it lies beside souk
  [ -x "$SOUK_BIN/$1" ] || die "no program '$1' in $SOUK_BIN; build it (cmake --preset release && cmake --build --preset release), or set SOUK_BIN"
}

find_programs() {  # NAME...
  if [ -z "${SOUK_BIN:-}" ]; then
    SOUK_BIN=$repository/build/release/bin
    if [ ! -x "$SOUK_BIN/souk" ] && command -v souk >/dev/null; then SOUK_BIN=$(dirname "$(command -v souk)"); fi
  fi
  SOUK_BIN=$(cd "$SOUK_BIN" 2>/dev/null && pwd) || die "no folder '${SOUK_BIN:-}'; set SOUK_BIN to the one that has souk"
  for name in souk "$@"; do need_program "$name"; done
  SOUK=$SOUK_BIN/souk
  export SOUK SOUK_BIN
}

scratch=
private_grid=
cleanup() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$private_grid" ]; then "$SOUK" down --dir "$private_grid" >/dev/null 2>&1 || say "the private grid in $private_grid could not be stopped; try: $SOUK down --dir $private_grid"; fi
  if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
  exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

make_scratch() { scratch=$(mktemp -d "${TMPDIR:-/tmp}/souk-example-XXXXXX"); }

grid_options=${grid_options:-}  # of souk up, for a private grid

need_service() {  # NAME: a grid whose workers offer it
  if "$SOUK" workers --json 2>/dev/null | grep -q "\"services\":\[[^]]*\"$1\""; then return 0; fi
  start_grid
}

need_grid() {
  if "$SOUK" workers --json 2>/dev/null | grep -q '"slots"'; then return 0; fi
  start_grid
}

start_grid() {
  private_grid=$scratch/grid
  workers=2
  slots=$(( ($(getconf _NPROCESSORS_ONLN) + 1) / 2 ))
  "$SOUK" up --dir "$private_grid" --workers $workers --slots "$slots" $grid_options >"$scratch/up.log" 2>&1 ||
    { cat "$scratch/up.log" >&2; die "cannot start a private grid"; }
  SOUK_DIR=$private_grid
  export SOUK_DIR
  say "started a private grid: $workers workers with $slots slot(s) each; it is stopped at the end"
}
