#!/bin/sh
# Fill alertmanager.yml in from files with secrets, and start Alertmanager with it.
# Usage: start.sh [--render FILE] [OPTIONS OF ALERTMANAGER …]
#   SECRETS    folder of the files, one value each; default /etc/alertmanager/secrets
#   TEMPLATES  folder of the templates; default beside this script
#   PROGRAM    default alertmanager, or prometheus-alertmanager where that is its name
# With --render it writes the configuration to FILE and ends.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
secrets=${SECRETS:-/etc/alertmanager/secrets}
templates=${TEMPLATES:-$here/templates}

umask 077 # what is written holds secrets
if [ "${1:-}" = --render ]; then
    rendered=$2
    shift 2
    is_all=yes
else
    rendered=$(mktemp "${TMPDIR:-/tmp}/alertmanager.XXXXXX")
    is_all=no
fi

if [ ! -d "$secrets" ]; then
    echo "there is no folder $secrets with secrets: set SECRETS (docs/alerts.md lists the files)" >&2
    exit 1
fi

awk -v secrets="$secrets" -v templates="$templates" '
    function held_by(name,    path, line, value) {
        path = secrets "/" name
        value = ""
        while ((getline line < path) > 0) value = value line
        close(path)
        sub(/[ \t\r\n]+$/, "", value)
        return value
    }
    # Replaces by position: gsub() would read & and backslashes of a secret as its own.
    function replaced(line, from, to,    at) {
        while ((at = index(line, from)) > 0)
            line = substr(line, 1, at - 1) to substr(line, at + length(from))
        return line
    }
    function quoted(value) {
        gsub(/\047/, "\047\047", value) # within single quotes of YAML
        return value
    }
    /^ *#if / {
        is_left_out = 0
        for (number = 2; number <= NF; number++)
            if (held_by($number) == "") { is_left_out = 1; missing[$number] = 1 }
        next
    }
    /^ *#end *$/ { is_left_out = 0; next }
    is_left_out || /^ *#/ { next }
    {
        while (match($0, /@file [a-z-]+@/)) {
            mark = substr($0, RSTART, RLENGTH)
            name = substr(mark, 7, length(mark) - 7)
            $0 = replaced($0, mark, quoted(held_by(name)))
        }
        $0 = replaced($0, "@secrets@", secrets)
        $0 = replaced($0, "@templates@", templates)
        print
    }
    END {
        for (name in missing) names = names " " name
        if (names != "") print "not set up, for want of files in " secrets ":" names > "/dev/stderr"
    }
' "$here/alertmanager.yml" >"$rendered"

[ "$is_all" = yes ] && exit
program=${PROGRAM:-$(command -v alertmanager || command -v prometheus-alertmanager)}
exec "$program" --config.file="$rendered" "$@"
