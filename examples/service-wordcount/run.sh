#!/bin/sh
# Lines, words and bytes of every file in a folder, one call of a Python service a file, compared with wc.
#   run.sh [FOLDER]
# FOLDER: default: the documents of this repository.
grid_options='--service word-count=./wordcount.py'
. "$(dirname "$0")/../grid.sh"

case ${1:-} in -*) sed -n '2,4s/^# //p' "$0"; case $1 in -h | --help) exit 0 ;; esac; exit 2 ;; esac

find_programs
make_scratch
folder=$(cd "${1:-$repository/docs}" 2>/dev/null && pwd) || die "no folder '$1', or it cannot be entered"
find "$folder" -type f ! -name '*
*' | LC_ALL=C sort >"$scratch/list"
count=$(wc -l <"$scratch/list")
[ "$count" -gt 0 ] || die "no files in '$folder'"
cd "$repository/examples/service-wordcount"
need_service word-count

"$SOUK" map --service word-count --name words <"$scratch/list" >"$scratch/grid.counts"
while IFS= read -r file; do printf '%d %d %d %s\n' "$(wc -l <"$file")" "$(LC_ALL=C.UTF-8 wc -w <"$file")" "$(wc -c <"$file")" "$file"; done <"$scratch/list" >"$scratch/local.counts"
if ! cmp -s "$scratch/local.counts" "$scratch/grid.counts"; then
  diff "$scratch/local.counts" "$scratch/grid.counts" | head -20 >&2
  say "counts differ from those of wc (< wc, > grid)"
  exit 1
fi
head -3 "$scratch/grid.counts"
if [ "$count" -gt 3 ]; then echo ...; fi
echo "$count files counted by the service, all as wc counts"
