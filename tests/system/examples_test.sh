#!/bin/sh
# Runs the run.sh of an example on a grid of its own, and judges what it prints.
#   examples_test.sh STORY BIN
# STORY: ant-colony, parallel-map, monte-carlo, job-file, service-wordcount or service-kernel. BIN: the folder of the programs to test.
set -eu
story=$1
SOUK_BIN=$2
examples=$(cd "$(dirname "$0")/../../examples" && pwd)
place=$(mktemp -d "${TMPDIR:-/tmp}/souk-examples-test-XXXXXX")
trap 'rm -rf "$place"' EXIT
SOUK_DIR=$place/none  # no grid there: run.sh must start its own, and stop it
unset SOUK
export SOUK_BIN SOUK_DIR TMPDIR="$place"
cd "$place"

fail() {
  echo "FAILED: $1" >&2
  for file in out err; do [ -f "$file" ] && sed "s/^/$file: /" "$file" >&2; done
  exit 1
}
run() {  # run.sh with these options must succeed
  "$examples/$story/run.sh" "$@" >out 2>err || fail "run.sh $* exited with $?"
}
refused() {  # MESSAGE OPTIONS...: run.sh must exit with 2 and say this
  message=$1
  shift
  code=0
  "$examples/$story/run.sh" "$@" >out 2>err || code=$?
  [ $code -eq 2 ] || fail "run.sh $* exited with $code, not 2"
  grep -qF -- "$message" err || fail "run.sh $* does not say: $message"
}
says() { grep -qE -- "$1" out || fail "the output has no line like: $1"; }

case $story in
  ant-colony)
    run berlin52 --seed 1 --generations 12 --tour grid.tour
    says '^best tour of berlin52: 7542 '
    says '^ +12 +7542 +[0-9]+ '
    says '^overhead per generation: median [0-9]+\.[0-9] ms '
    says '^plot: .*/berlin52\.svg$'
    grep -q '^<svg .*' berlin52.svg || fail "no plot"
    [ "$(grep -c '<circle' berlin52.svg)" -eq 52 ] || fail "the plot does not show 52 cities"
    "$SOUK_BIN/ant-colony" "$examples/ant-colony/instances/berlin52.tsp" --serial --seed 1 --generations 12 --tour serial.tour >/dev/null 2>&1 || fail "serial run"
    cmp -s grid.tour serial.tour || fail "the grid's tour is not that of the serial run"

    # Another cut into tasks, another number of slots to reckon with: the same tour.
    run eil51 --seed 1 --generations 5 --tasks 3 --tour grid.tour --svg other.svg
    length=$(sed -n 's/^best tour of eil51: \([0-9]*\) .*/\1/p' out)
    [ "$length" -ge 426 ] && [ "$length" -le 430 ] || fail "eil51: $length is not within 1 % of 426"
    [ -f other.svg ] && [ ! -f eil51.svg ] || fail "--svg was not obeyed"
    "$SOUK_BIN/ant-colony" "$examples/ant-colony/instances/eil51.tsp" --serial --threads 2 --seed 1 --generations 5 --tour serial.tour >/dev/null 2>&1 || fail "serial run"
    cmp -s grid.tour serial.tour || fail "the grid's tour is not that of the serial run"

    refused "no instance 'atlantis'" atlantis
    printf 'TYPE: TSP\nEDGE_WEIGHT_TYPE: GEO\n' >bad.tsp
    refused "line 2: EDGE_WEIGHT_TYPE is 'GEO'" ./bad.tsp
    refused "--generations" berlin52 --generations 0
    refused "cannot write '/no/such/folder/x.svg'" berlin52 --svg /no/such/folder/x.svg
    ;;
  parallel-map)
    run
    says '^200 files, 200 checksums over the grid in [0-9]+ ms; all as computed here$'
    says '^[0-9a-f]{64}  .*/part 001\.txt$'
    mkdir odd
    printf 'one' >"odd/a 'quoted' \$name"
    printf 'two' >"odd/-n"
    : >odd/empty
    printf 'four' >"odd/Grüße"
    run odd
    says '^4 files, 4 checksums'
    run --send odd
    says '^4 files, 4 checksums'
    refused "no folder '/no/such/folder'" /no/such/folder
    mkdir nothing
    refused "no files in" nothing
    ;;
  monte-carlo)
    run --tasks 40 --paths 4000 --seed 7 --check
    says '^tasks +40$'
    says '^paths +160000$'
    says '^european call .*: agrees$'
    says '^every task as computed here$'
    says '^asian call, controlled +5\.[0-9]+ \+- 0\.0[0-9]+$'
    cp out first
    run --tasks 40 --paths 4000 --seed 7 --check
    cmp -s first out || fail "the same seed gave another result"
    refused "'many' is not a whole number" --tasks many
    ;;
  job-file)
    run
    says '^data: 1 task; [0-9]+ workers? fits?, '
    says '^fit: 30 tasks; '
    says '^1000 points$'
    says '^0\.[0-9]+ a=3\.0 b=2$'
    says '^TASK +GROUP +STATE'
    says '^ +1 +data +succeeded +exit 0'
    says '^ *33 +tidy +succeeded +exit 0'
    says '^ +2 +fit +succeeded +exit 0'
    mkdir study
    run --keep-going study
    says '^0\.[0-9]+ a=3\.0 b=2$'
    [ -z "$(ls study)" ] || fail "the job left its files behind"
    refused "no folder '/no/such/folder'" /no/such/folder
    ;;
  service-wordcount)
    run
    says '^[0-9]+ [0-9]+ [0-9]+ /.*\.md$'
    says '^[0-9]+ files counted by the service, all as wc counts$'
    mkdir odd nothing
    printf 'one two\nthree' >"odd/with a space"
    run odd
    says '^1 3 13 .*/odd/with a space$'
    refused "no files in" nothing
    refused "no folder '/no/such/folder'" /no/such/folder
    ;;
  service-kernel)
    run 1000 100
    says '^pi = 3\.1415926[0-9]*$'
    says '^1000 calls in [0-9]+ ms$'
    refused "'many' is not a whole number" many
    ;;
  *) fail "no story '$story'" ;;
esac

left=$(find "$place" -maxdepth 1 -name 'souk-example-*')
[ -z "$left" ] || fail "run.sh left $left behind"
echo "$story: passed"
