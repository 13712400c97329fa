#!/bin/sh
# The travelling salesman by ants on the grid.
#   run.sh [INSTANCE] [options of ant-colony]
# INSTANCE: a file, or one of the names in instances/ (default: berlin52). Writes the plot to INSTANCE.svg here, unless --svg names another file.
. "$(dirname "$0")/../grid.sh"

instance=berlin52
case ${1:-} in
  -h | --help) find_programs ant-colony; "$SOUK_BIN/ant-colony" --help; exit 0 ;;
  '' | -*) ;;
  *) instance=$1; shift ;;
esac
if [ ! -f "$instance" ]; then
  named=$repository/examples/ant-colony/instances/$(basename "$instance" .tsp).tsp
  [ -f "$named" ] || die "no instance '$instance'; there are: $(cd "$repository/examples/ant-colony/instances" && echo *.tsp | sed 's/\.tsp//g')"
  instance=$named
fi

find_programs ant-colony
make_scratch
need_grid
# Not exec: the trap stops the grid. A later --svg among the options replaces this one.
svg=$(basename "$instance" .tsp).svg
for word in "$@"; do case $word in --svg | --svg=*) svg= ;; esac; done
"$SOUK_BIN/ant-colony" "$instance" ${svg:+--svg "$PWD/$svg"} "$@"
