#!/usr/bin/env bash
# Change the number of pods: stop all, let every shard finish and hand over, start the new number (docs/scaling.md).
# Usage: scale.sh [--dry-run] [--namespace NAMESPACE] N
# What it does can be done again after a failure or an interruption, with the same or with another number.
set -euo pipefail
here=$(dirname "$0")

namespace=cascadewatch dry_run='' wanted=''
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry_run=yes ;;
    --namespace) namespace=${2:?--namespace needs a name} && shift ;;
    [1-9] | [1-6][0-9]) wanted=$1 ;;
    *) echo "scale.sh: cannot make sense of '$1'; usage: scale.sh [--dry-run] [--namespace NAMESPACE] N, with N from 1 to 64" >&2 && exit 2 ;;
    esac
    shift
done
if [ -z "$wanted" ] || [ "$wanted" -gt 64 ]; then
    echo "scale.sh: say how many pods there shall be, from 1 to 64" >&2
    exit 2
fi

name=cascadewatch
pods="app.kubernetes.io/name=$name,app.kubernetes.io/component=flow"
stop_seconds=120
drain_seconds=1800
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ask() { kubectl --namespace "$namespace" "$@"; }
act() { # what changes something: shown, and with --dry-run only shown
    echo "+ kubectl --namespace $namespace $*"
    [ -n "$dry_run" ] || ask "$@"
}

ask get statefulset "$name" --output json >"$work/statefulset.json"
read -r now is_sharded settings < <(python3 - "$work/statefulset.json" <<'EOF'
import json, sys
container = json.load(open(sys.argv[1]))["spec"]["template"]["spec"]["containers"][0]
count = next(each["value"] for each in container["env"] if each["name"] == "COUNT")
settings = next(each["configMapRef"]["name"] for each in container["envFrom"] if "configMapRef" in each)
print(count, "CASCADEWATCH_SHARD=" in " ".join(container["args"]), settings)
EOF
)
tables=$(ask get configmap "$settings" --output 'jsonpath={.data.CASCADEWATCH_SINK__TABLES_URI}')
if [ "$wanted" -gt 1 ] && [ -z "$tables" ]; then
    echo "scale.sh: the tables are on the volume of one pod, which others cannot reach. Set CASCADEWATCH_SINK__TABLES_URI first, in the ConfigMap (docs/object-store.md)." >&2
    exit 1
fi
echo "from $now to $wanted pods in namespace $namespace"

act scale statefulset "$name" --replicas=0
if [ -z "$dry_run" ]; then
    for ((waited = 0; ; waited++)); do
        left=$(ask get pods --selector "$pods" --output name)
        [ -n "$left" ] || break
        if [ "$waited" -ge "$stop_seconds" ]; then
            echo "scale.sh: not stopped after $stop_seconds s: ${left//$'\n'/, }. See why, then run this again." >&2
            exit 1
        fi
        sleep 1
    done
fi

# A shard that was stopped while its store answered has handed over already: then this finds nothing to do. One that was killed,
# or is the undivided process that a first division begins with, has not.
drained() { # JOB: wait for its end
    local succeeded failed waited=0
    while [ "$waited" -lt "$drain_seconds" ]; do
        succeeded=$(ask get "$1" --output 'jsonpath={.status.succeeded}')
        failed=$(ask get "$1" --output 'jsonpath={.status.conditions[?(@.type=="Failed")].status}')
        [ "$succeeded" != 1 ] || return 0
        [ "$failed" != True ] || return 1
        sleep 1
        waited=$((waited + 1))
    done
    return 1
}
if [ "$is_sharded" = True ] && [ "$now" != "$wanted" ]; then
    for ((number = 0; number < now; number++)); do
        python3 "$here/kubernetes/drain_job.py" "$number" <"$work/statefulset.json" >"$work/job.json"
        echo "+ kubectl --namespace $namespace create --filename - # finishes $name-$number"
        if [ -n "$dry_run" ]; then
            cat "$work/job.json"
            continue
        fi
        job=$(ask create --filename "$work/job.json" --output name)
        if ! drained "$job"; then
            ask logs "$job" --tail 20 >&2 || true
            cat >&2 <<EOF
scale.sh: shard $number/$now has not handed over; the reason stands above. Nothing is lost, and no pod runs.
Mend it and run this again. To go back to $now pods: $0 --namespace $namespace $now
Where its volume is lost for good: cascadewatch shards --give-up $number/$now
EOF
            exit 1
        fi
    done
fi

patch='{"spec":{"replicas":'$wanted',"template":{"spec":{"containers":[{"name":"flow","env":[{"name":"COUNT","value":"'$wanted'"}]}]}}}}'
act patch statefulset "$name" --type strategic --patch "$patch"
act rollout status "statefulset/$name" --timeout 300s
echo "Now write $wanted into your overlay, as replicas and as COUNT: the next apply would change it back."
