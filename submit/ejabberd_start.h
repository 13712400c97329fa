// The script that runs ejabberd for one grid: docker/ejabberd word for word, which a test holds it to.
#pragma once
#include <string_view>

namespace souk {

inline constexpr std::string_view kEjabberdStart = R"SH(#!/bin/sh
# Runs ejabberd for one grid, in the foreground, until TERM: docker/ejabberd FOLDER
# FOLDER/ejabberd.yml is its configuration (`souk server init` writes one). FOLDER/accounts, if there is one, has accounts to make first, one a line:
#   {<<"bob">>, <<"his password">>}.
# and is removed then. All data are in FOLDER. No epmd, no Erlang distribution, so no ejabberdctl either: nothing listens but what the configuration says.
set -eu
umask 077
if [ "$#" -ne 1 ] || [ ! -r "$1/ejabberd.yml" ]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
folder=$(cd "$1" && pwd)
libraries=$(ls -d /usr/lib/*/ejabberd-2?.*/ebin 2>/dev/null | head -n 1 || true)
if [ -z "$libraries" ] || ! command -v erl >/dev/null; then
  echo "ejabberd is not installed; apt-get install --no-install-recommends ejabberd" >&2
  exit 1
fi
export EJABBERD_CONFIG_PATH="$folder/ejabberd.yml" EJABBERD_LOG_PATH="$folder/ejabberd.log" ERL_CRASH_DUMP="$folder/crash" ERL_LIBS="${libraries%/*/ebin}" HOME="$folder"
export ERL_MAX_PORTS=32000
cd "$folder"

if [ -e accounts ]; then
  # With nobody listening, or a worker could come before its account is made. Passwords stand in a file, for a command line is for everybody to see.
  domain=$(sed -n 's/^hosts: \["\(.*\)"\]/\1/p' ejabberd.yml)
  sed '/^listen:/,/^s2s_access/{/^s2s_access/!d}; s/^s2s_access/listen: []\n&/' ejabberd.yml >silent.yml
  EJABBERD_CONFIG_PATH="$folder/silent.yml" erl -noinput -mnesia dir "\"$folder/mnesia\"" -s ejabberd -eval "
    {ok, All} = file:consult(\"accounts\"),
    Made = [ejabberd_auth:try_register(User, <<\"$domain\">>, Password) || {User, Password} <- All],
    ejabberd:stop(), mnesia:stop(),
    halt(case [Error || Error <- Made, Error =/= ok, Error =/= {error, exists}] of [] -> 0; _ -> 1 end)."
  rm -f accounts silent.yml
fi
# Schedulers that find nothing to do spin for a while, by default; others may want those processors.
exec erl -noinput +K true +P 250000 +sbwt none +sbwtdcpu none +sbwtdio none -mnesia dir "\"$folder/mnesia\"" -s ejabberd
)SH";

}  // namespace souk
