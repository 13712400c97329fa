#!/bin/bash
# scripts/install-deps with stand-ins for dpkg, apt and sudo: what it would do to a machine, without doing it to this one.
#   install_deps_test.sh PATH-OF-INSTALL-DEPS
set -u
script=$1
scratch=$(mktemp -d "${TMPDIR:-/tmp}/souk-install-test-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
failures=0

fresh() {  # a machine on which nothing of ours is installed, an ordinary user sits, and sudo asks nothing
  rm -rf "$scratch/bin" "$scratch/calls" "$scratch/policy"
  mkdir "$scratch/bin"
  : >"$scratch/calls"
  for tool in bash sh cat grep rm mktemp install tail env printf; do ln -s "$(command -v "$tool" || echo /bin/false)" "$scratch/bin/$tool"; done
  stub id 'echo 1000'
  stub dpkg-query 'exit 1'
  stub sudo 'echo "sudo $*" >>"$CALLS"; shift; [ "$1" = true ] || exec "$@"'
  stub apt-get 'echo "apt-get $*; policy $(cat "$SOUK_POLICY_RC" 2>/dev/null | grep -c prosody)" >>"$CALLS"; exec <&0; [ ! -t 0 ] || exit 9'
  stub systemctl 'echo "systemctl $*" >>"$CALLS"'
  stub update-rc.d 'echo "update-rc.d $*" >>"$CALLS"'
}
stub() { printf '#!/bin/bash\n%s\n' "$2" >"$scratch/bin/$1"; chmod +x "$scratch/bin/$1"; }
run() {
  env -i PATH="$scratch/bin" CALLS="$scratch/calls" TMPDIR="$scratch" SOUK_POLICY_RC="$scratch/policy" "$scratch/bin/bash" "$script" "$@" >"$scratch/out" 2>&1 </dev/null
  code=$?
}
expect() {  # WHAT COMMAND...
  local what=$1
  shift
  if "$@"; then return; fi
  failures=$((failures + 1))
  printf 'FAILED: %s\n--- said:\n%s\n--- called:\n%s\n' "$what" "$(cat "$scratch/out")" "$(cat "$scratch/calls")"
}
called() { grep -q -- "$1" "$scratch/calls"; }
said() { grep -q -- "$1" "$scratch/out"; }
not() { ! "$@"; }

fresh
stub dpkg-query 'printf installed'
run
expect 'nothing is done when all is there' [ "$code" = 0 ]
expect 'nothing is called when all is there' [ ! -s "$scratch/calls" ]

fresh
run
expect 'missing packages are installed' [ "$code" = 0 ]
expect 'by apt, without questions, by sudo -n' called 'sudo -n env DEBIAN_FRONTEND=noninteractive.*apt-get.*-y.* install .*libgloox-dev.*prosody'
expect 'while no server may be started' called ' install .*prosody.*; policy 1'
expect 'which is allowed again afterwards' [ ! -e "$scratch/policy" ]
expect 'nor does it start at the next boot' called 'systemctl disable --now prosody'

fresh
printf 'theirs\n' >"$scratch/policy"
run
expect 'a policy that was there stays' [ "$(cat "$scratch/policy")" = theirs ]

fresh
stub dpkg-query '[ "${!#}" = ninja-build ] || printf installed'
run
expect 'only what is missing is installed' called ' install --no-install-recommends ninja-build;'
expect 'and a server that was there is left alone' not called 'prosody'

fresh
stub apt-get 'for word; do [ "$word" != install ] || { echo "E: Unable to locate package libgloox-dev"; exit 100; }; done'
run
expect 'a failure is a failure' [ "$code" = 1 ]
expect 'told in the words of apt' said 'Unable to locate package libgloox-dev'
expect 'and leaves no policy behind' [ ! -e "$scratch/policy" ]

fresh
stub sudo 'exit 1'
run
expect 'without rights it fails' [ "$code" = 1 ]
expect 'and says what to run' said 'as root, run: apt-get install .*prosody'

fresh
rm "$scratch/bin/dpkg-query"
run
expect 'another system is told apart' [ "$code" = 1 ]
expect 'and told what it needs' said 'gloox'

fresh
run --list
expect 'lists the packages' said '^prosody$'
run --lits
expect 'refuses unknown options' [ "$code" = 2 ]

[ "$failures" = 0 ] && echo 'all well'
[ "$failures" = 0 ]
