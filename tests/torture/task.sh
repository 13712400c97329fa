#!/bin/sh
# What tasks do here: LEDGER TOKEN "MS BYTES FAILS CODE"
# Writes each start and each end into a file outside the grid, waits, prints BYTES bytes that only this task prints, fails its first FAILS
# complete runs with exit code 9, and ends with CODE.
ledger=$1 token=$2
[ $# -ge 4 ] && task=$4 || task=$SOUK_TASK
set -- $3
file=$ledger/$token.$task
echo "start $SOUK_WORKER $SOUK_JOB $SOUK_TASK $SOUK_ATTEMPT $(date +%s.%N)" >>"$file"
[ "$1" = 0 ] || sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"
[ "$2" = 0 ] || yes "$token.$task says $2" | head -c "$2"
before=$(grep -c '^end' "$file")
echo "end $SOUK_WORKER $SOUK_JOB $SOUK_TASK $SOUK_ATTEMPT $(date +%s.%N)" >>"$file"
[ "$before" -ge "$3" ] || exit 9
exit "$4"
