#!/bin/sh
# The price of an Asian option from independent tasks.
#   run.sh [--tasks N] [--paths N] [--seed N] [--check]
# --tasks: default 64. --paths: in each task, default 50000. --check: compute the same here as well, and compare every line.
. "$(dirname "$0")/../grid.sh"

tasks=64 paths=50000 seed=1 check=
while [ $# -gt 0 ]; do
  case $1 in
    --tasks) tasks=${2:-}; shift ;;
    --paths) paths=${2:-}; shift ;;
    --seed) seed=${2:-}; shift ;;
    --check) check=yes ;;
    -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
    *) die "unknown option '$1'; --help lists them" ;;
  esac
  [ $# -gt 0 ] && shift
done
for number in "$tasks" "$paths" "$seed"; do
  case $number in '' | *[!0-9]*) die "'$number' is not a whole number" ;; esac
done
[ "$tasks" -ge 1 ] && [ "$paths" -ge 1 ] || die "--tasks and --paths are at least 1"

find_programs monte-carlo
make_scratch
need_grid
program=$SOUK_BIN/monte-carlo
"$SOUK" run --name monte-carlo --array "1-$tasks" -- "$program" --task '{#}' --paths "$paths" --seed "$seed" >"$scratch/lines"
"$program" --merge <"$scratch/lines"
if [ -n "$check" ]; then
  "$program" --local "$tasks" --paths "$paths" --seed "$seed" >"$scratch/local"
  if cmp -s "$scratch/local" "$scratch/lines"; then echo "every task as computed here"; else say "the grid's lines differ from those computed here"; exit 1; fi
fi
