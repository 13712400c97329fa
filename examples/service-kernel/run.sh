#!/bin/sh
# Pi as a sum of integrals, one call of a C++ service a part.
#   run.sh [PARTS [STEPS]]
# PARTS: tasks, default 20000. STEPS: of each part, default 1000.
find_kernel() { find_programs service-kernel; grid_options="--service kernel=./service-kernel"; }
. "$(dirname "$0")/../grid.sh"

parts=${1:-20000} steps=${2:-1000}
for number in "$parts" "$steps"; do
  case $number in '' | *[!0-9]* | 0*) sed -n '2,4s/^# //p' "$0"; case $1 in -h | --help) exit 0 ;; esac; die "'$number' is not a whole number above zero" ;; esac
done
find_kernel
make_scratch
cd "$SOUK_BIN"
need_service kernel

begin=$(date +%s%N)
"$SOUK" run --service kernel --name pi --array "1-$parts" "{} $parts $steps" >"$scratch/parts"
end=$(date +%s%N)
awk -v parts="$parts" -v ms="$(( (end - begin) / 1000000 ))" '{ pi += $1 } END { printf "pi = %.10f\n%d calls in %d ms\n", pi, NR, ms; exit NR != parts }' "$scratch/parts"
