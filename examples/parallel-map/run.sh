#!/bin/sh
# SHA-256 of every file in a folder, one task a file, compared with the same done here.
#   run.sh [--send] [FOLDER]
# FOLDER: default: 200 files made up for the purpose.
# --send: the files' contents travel to the tasks as stdin (at most 8 MiB each), so that the workers need not share this machine's disk.
. "$(dirname "$0")/../grid.sh"

send=
if [ "${1:-}" = --send ]; then send=yes; shift; fi
case ${1:-} in -*) sed -n '2,5s/^# //p' "$0"; case $1 in -h | --help) exit 0 ;; esac; exit 2 ;; esac

find_programs
make_scratch
if [ $# -gt 0 ]; then
  folder=$(cd "$1" 2>/dev/null && pwd) || die "no folder '$1', or it cannot be entered"
else
  folder=$scratch/files
  mkdir "$folder"
  awk -v folder="$folder" 'BEGIN { for (i = 1; i <= 200; i++) { file = sprintf("%s/part %03d.txt", folder, i); for (j = 1; j <= 10 * i; j++) print i, j, i * j > file; close(file) } }'
fi
# One line a file, so a name with a newline cannot be told apart.
find "$folder" -type f ! -name '*
*' | LC_ALL=C sort >"$scratch/list"
count=$(wc -l <"$scratch/list")
[ "$count" -gt 0 ] || die "no files in '$folder'"
need_grid

begin=$(date +%s%N)
if [ -z "$send" ]; then
  "$SOUK" map --name checksums 'sha256sum {}' <"$scratch/list" >"$scratch/grid.sums"
else
  # Each file is the stdin of a job of its own; eight submitters at a time keep the slots busy. sha256sum sees no name, so it is put back here.
  mkdir "$scratch/sums"
  cat >"$scratch/one" <<'END'
number=${1%% *} file=${1#* }
"$SOUK" run --name checksum --stdin "$file" -- sha256sum >"$2/$number.tmp" && { printf '%s  %s\n' "$(cut -c1-64 "$2/$number.tmp")" "$file" >"$2/$number.sum"; rm "$2/$number.tmp"; }
END
  awk '{ printf "%09d %s%c", NR, $0, 0 }' "$scratch/list" | xargs -0 -P 8 -I FILE sh "$scratch/one" FILE "$scratch/sums" || die "a task failed"
  cat "$scratch"/sums/*.sum >"$scratch/grid.sums"
fi
end=$(date +%s%N)

tr '\n' '\0' <"$scratch/list" | xargs -0 sha256sum >"$scratch/local.sums"
if ! diff "$scratch/local.sums" "$scratch/grid.sums" >"$scratch/difference"; then
  head -20 "$scratch/difference" >&2
  say "checksums differ from those computed here (< here, > grid)"
  exit 1
fi
head -3 "$scratch/grid.sums"
if [ "$count" -gt 3 ]; then echo ...; fi
echo "$count files, $count checksums over the grid in $(( (end - begin) / 1000000 )) ms; all as computed here"
