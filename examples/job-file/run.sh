#!/bin/sh
# A study of several steps as one job: data, a fit for each pair of parameters, the best of them, and tidying up.
#   run.sh [--keep-going] [FOLDER]
# FOLDER: where the tasks leave what others need; the workers must see it under the same name. Default: a temporary one.
# --keep-going: even if a fit fails.
. "$(dirname "$0")/../grid.sh"

limit=
if [ "${1:-}" = --keep-going ]; then limit=1000; shift; fi
case ${1:-} in -*) sed -n '2,5s/^# //p' "$0"; case $1 in -h | --help) exit 0 ;; esac; exit 2 ;; esac

file=$(cd "$(dirname "$0")" && pwd)/job.toml
find_programs
make_scratch
if [ $# -gt 0 ]; then
  STUDY=$(cd "$1" 2>/dev/null && pwd) || die "no folder '$1', or it cannot be entered"
else
  STUDY=$scratch/study
  mkdir "$STUDY"
fi
export STUDY
need_grid

echo "What would match:"
"$SOUK" submit --file "$file" --env STUDY --dry-run
echo "What the tasks wrote:"
"$SOUK" run --file "$file" --env STUDY ${limit:+--max-fails $limit}
job=$("$SOUK" jobs --limit 1 --json | sed 's/^{"job":\([0-9]*\),.*/\1/')
echo "How the tasks went:"
"$SOUK" tasks "$job" | cut -c1-60 | sed -n '1,4p;$p'
