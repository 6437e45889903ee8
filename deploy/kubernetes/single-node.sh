#!/usr/bin/env bash
# A Kubernetes cluster of this machine alone, for make test-kubernetes where there is no other: built from Debian's source package.
# Usage: single-node.sh up | down | run COMMAND...     as root on Debian 12; `up` prints the kubeconfig's path last
# Environment: DIRECTORY (default /var/tmp/single-node) keeps binaries and logs; KUBECTL (default kubectl)
# Version 1.20. Volumes are folders, names are answered by dnsmasq, network policies are not enforced.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

work=${DIRECTORY:-/var/tmp/single-node}
bin=$work/bin state=$work/state logs=$work/logs
node_ip=10.197.0.1 dns_ip=10.197.0.10 pods=10.198.0.0/16 services=10.199.0.0/16
programs=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet)
packages=(etcd-server containerd runc containernetworking-plugins dnsmasq-base iptables conntrack buildah)
build_packages=(dpkg-dev golang-go golang-github-modern-go-reflect2-dev gcc libc6-dev)
volumes=6 # of 10 GiB, on paper

say() { echo "single-node: $*" >&2; }

install_packages() {
    local missing
    missing=$(for package in "$@"; do dpkg -s "$package" >/dev/null 2>&1 || echo "$package"; done | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    say "installing ${missing}..."
    # shellcheck disable=SC2086 # a list of packages
    "$here/../apt-install.sh" $missing
}

# The machine's own sources, as sources of source packages, in lists of their own.
source_apt() {
    mkdir -p "$work/apt/parts" "$work/apt/lists/partial"
    sed -n 's/^Types:.*/Types: deb-src/p; /^Types:/!p' /etc/apt/sources.list.d/*.sources >"$work/apt/parts/source.sources" 2>/dev/null || true
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list >"$work/apt/parts/source.list" 2>/dev/null || true
    apt-get -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/apt/parts" -o Dir::State::Lists="$work/apt/lists" \
        -o APT::Sandbox::User=root "$@"
}

build() {
    if [ "$(find "$bin" -name 'kube*' 2>/dev/null | wc -l)" = ${#programs[@]} ]; then return; fi
    install_packages "${build_packages[@]}"
    local go=$work/go tree=$work/go/src/k8s.io/kubernetes package flags=()
    mkdir -p "$bin" "$go/src/k8s.io"
    if [ ! -d "$tree" ]; then
        say "fetching the source package kubernetes ..."
        source_apt update >/dev/null
        (cd "$work" && source_apt source --download-only kubernetes >/dev/null && dpkg-source --no-check -x kubernetes_*.dsc "$tree" >/dev/null)
        # The one that comes with it is too old for Go 1.18 and later: custom resources would crash the apiserver.
        rm -rf "$tree/vendor/github.com/modern-go/reflect2"
        cp -rL /usr/share/gocode/src/github.com/modern-go/reflect2 "$tree/vendor/github.com/modern-go/"
    fi
    export GOPATH=$go GO111MODULE=off GOCACHE=$work/go-cache CGO_ENABLED=0
    say "building ${programs[*]}: some minutes ..."
    # What the API says of itself is no part of the source, but generated from it.
    if [ ! -e "$tree/pkg/generated/openapi/zz_generated.openapi.go" ]; then
        (
            cd "$tree"
            go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
            types=$(grep -rl --include=*.go --exclude=*_test.go '+k8s:openapi-gen=' pkg cmd staging/src/k8s.io |
                grep -vE 'sample-apiserver|code-generator|/testdata/|/test/' | xargs -n1 dirname |
                sed 's#^staging/src#vendor#; s#^#k8s.io/kubernetes/#' | sort -u | paste -sd,)
            "$work/openapi-gen" --input-dirs "$types" --output-package k8s.io/kubernetes/pkg/generated/openapi \
                --output-file-base zz_generated.openapi --go-header-file hack/boilerplate/boilerplate.generatego.txt \
                --report-filename "$work/openapi-violations"
        )
    fi
    for package in component-base/version client-go/pkg/version; do
        package=k8s.io/kubernetes/vendor/k8s.io/$package
        flags+=(-X "$package.gitVersion=v1.20.2" -X "$package.gitMajor=1" -X "$package.gitMinor=20")
    done
    (cd "$tree" && go build -tags providerless,dockerless -ldflags "-s -w ${flags[*]}" -o "$bin/" "${programs[@]/#/./cmd/}")
}

start() { # NAME COMMAND...: in the background, until down
    local name=$1
    shift
    setsid "$@" </dev/null >>"$logs/$name.log" 2>&1 &
    echo $! >"$state/$name.pid"
}

until_so() { # SECONDS WHAT COMMAND...
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge "$deadline" ]; then
            say "not in time: $what; see $logs"
            exit 1
        fi
        sleep 0.5
    done
}

ask() { "${KUBECTL:-kubectl}" --kubeconfig "$work/kubeconfig" "$@"; }

write_configuration() {
    local token
    token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    (umask 077 && echo "$token,admin,admin,system:masters" >"$state/tokens.csv")
    openssl genrsa -out "$state/accounts.key" 2048 2>/dev/null
    cat >"$work/kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: "https://$node_ip:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: "$token"}}]
contexts: [{name: here, context: {cluster: here, user: admin}}]
current-context: here
EOF
    chmod 600 "$work/kubeconfig"
    cat >"$state/containerd.toml" <<EOF
version = 2
root = "$state/images"
state = "$state/containerd"
[grpc]
  address = "$state/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
EOF
    mkdir -p "$state/cni"
    cat >"$state/cni/10-pods.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": true,
   "ipam": {"type": "host-local", "subnet": "$pods", "dataDir": "$state/addresses", "routes": [{"dst": "0.0.0.0/0"}]}}]}
EOF
    cat >"$state/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_ip
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
clusterDNS: [$dns_ip]
clusterDomain: cluster.local
enforceNodeAllocatable: []
evictionHard: {memory.available: 100Mi}
failSwapOn: false
oomScoreAdj: 0
readOnlyPort: 0
EOF
}

# All that a sandbox needs is a process that waits.
make_pause_image() {
    [ ! -e "$work/pause.tar" ] || return 0
    install_packages gcc libc6-dev
    echo 'int pause(void); int main(void) { for (;;) pause(); }' | gcc -O2 -static -o "$work/pause" -x c -
    local container
    container=$(buildah from scratch)
    buildah copy --quiet "$container" "$work/pause" /pause >/dev/null
    buildah config --entrypoint '["/pause"]' "$container"
    buildah commit --quiet --rm "$container" localhost/pause:1 >/dev/null
    buildah push --quiet localhost/pause:1 "docker-archive:$work/pause.tar:localhost/pause:1"
    buildah rmi localhost/pause:1 >/dev/null
}

import_image() { # FILE
    ctr --address "$state/containerd.sock" --namespace k8s.io image import "$1" >/dev/null
}

# Services by name, for dnsmasq, which reads a folder's files when they change.
answer_names() {
    while sleep 1; do
        ask get services --all-namespaces --output \
            'jsonpath={range .items[*]}{.spec.clusterIP} {.metadata.name}.{.metadata.namespace}.svc.cluster.local{"\n"}{end}' \
            2>/dev/null | grep -v ^None >"$state/names.new" || continue
        cmp -s "$state/names.new" "$state/names/services" || cp "$state/names.new" "$state/names/services"
    done
}

make_volumes() {
    local number
    for ((number = 0; number < volumes; number++)); do
        mkdir -p "$state/volumes/$number"
        cat <<EOF
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: volume-$number}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {path: $state/volumes/$number}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [here]}]}]}}
EOF
    done | ask apply --filename - >/dev/null
}

require_down() {
    [ ! -e "$state" ] || { say "one is up already, or was not taken down: single-node.sh down" && exit 1; }
}

up() {
    require_down
    install_packages "${packages[@]}"
    if iptables -t nat -S 2>/dev/null | grep KUBE- >/dev/null; then
        say "this machine is a node of another cluster, whose rules would go with this one's"
        exit 1
    fi
    build
    make_pause_image
    mkdir -p "$state/names" "$logs"
    write_configuration
    ip address add $node_ip/32 dev lo
    ip address add $dns_ip/32 dev lo
    sysctl net.ipv4.ip_forward | tr -d ' ' >"$state/ip_forward"
    sysctl -q -w net.ipv4.ip_forward=1

    start etcd etcd --data-dir "$state/etcd" --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
        --listen-peer-urls http://127.0.0.1:12380
    start apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:12379 --bind-address=$node_ip --advertise-address=$node_ip \
        --cert-dir="$state/certificates" --token-auth-file="$state/tokens.csv" --authorization-mode=RBAC --service-cluster-ip-range=$services \
        --service-account-issuer=https://kubernetes.default.svc --service-account-signing-key-file="$state/accounts.key" \
        --service-account-key-file="$state/accounts.key" --kubelet-preferred-address-types=InternalIP
    until_so 60 "an apiserver" ask get --raw=/readyz
    start controller-manager "$bin/kube-controller-manager" --kubeconfig="$work/kubeconfig" --leader-elect=false \
        --service-account-private-key-file="$state/accounts.key" --bind-address=127.0.0.1 --port=0
    start scheduler "$bin/kube-scheduler" --kubeconfig="$work/kubeconfig" --leader-elect=false --bind-address=127.0.0.1 --port=0
    start containerd containerd --config "$state/containerd.toml"
    until_so 30 containerd ctr --address "$state/containerd.sock" version
    import_image "$work/pause.tar"
    if buildah inspect --type image localhost/cascadewatch:latest >/dev/null 2>&1; then
        say "handing it the image localhost/cascadewatch:latest ..."
        buildah push --quiet localhost/cascadewatch:latest "docker-archive:$state/image.tar:localhost/cascadewatch:latest"
        import_image "$state/image.tar"
        rm "$state/image.tar"
    else
        say "there is no image localhost/cascadewatch:latest yet: make image-test, then down and up again"
    fi
    start kubelet "$bin/kubelet" --config="$state/kubelet.yaml" --kubeconfig="$work/kubeconfig" --container-runtime=remote \
        --container-runtime-endpoint="unix://$state/containerd.sock" --node-ip=$node_ip --hostname-override=here --root-dir="$state/kubelet"
    start proxy "$bin/kube-proxy" --kubeconfig="$work/kubeconfig" --proxy-mode=iptables --cluster-cidr=$pods --hostname-override=here \
        --metrics-bind-address=127.0.0.1 --conntrack-max-per-core=0
    start dnsmasq dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file --listen-address=$dns_ip --bind-interfaces --no-resolv \
        --no-hosts --hostsdir="$state/names" --local=/cluster.local/ --user=root
    start names "$here/single-node.sh" answer-names
    until_so 60 "a node" ask wait --for=condition=Ready node/here --timeout=1s
    make_volumes
    echo "$work/kubeconfig"
}

down() {
    [ -e "$state" ] || return 0
    local name shim
    # Nobody makes new pods; the old ones end as pods do, so that their networks go with them.
    for name in names controller-manager scheduler; do end "$name"; done
    ask delete pods --all --all-namespaces --timeout=60s >/dev/null 2>&1 || true
    for name in kubelet proxy containerd apiserver etcd dnsmasq; do end "$name"; done
    for shim in $(pgrep -f "containerd-shim.*$state/containerd.sock" || true); do kill "$shim" 2>/dev/null || true; done
    forget_rules
    sysctl -q -w "$(cat "$state/ip_forward")" >/dev/null || true
    ip address del $node_ip/32 dev lo 2>/dev/null || true
    ip address del $dns_ip/32 dev lo 2>/dev/null || true
    awk -v under="$state/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mounted; do umount -l "$mounted"; done
    rm -rf "$state"
}

# kube-proxy --cleanup leaves the kubelet's.
forget_rules() {
    local table chains chain rule
    for table in nat filter mangle; do
        iptables -t $table -S 2>/dev/null | sed -n '/KUBE-/s/^-A/-D/p' | while read -r rule; do
            xargs iptables -t $table <<<"$rule" # which knows what is quoted in a rule
        done
        chains=$(iptables -t $table -S 2>/dev/null | sed -n 's/^-N \(KUBE-.*\)/\1/p')
        for chain in $chains; do iptables -t $table -X "$chain"; done
    done
}

end() { # NAME
    local pid
    [ -e "$state/$1.pid" ] || return 0
    pid=$(cat "$state/$1.pid")
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
}

if [ "$(id -u)" != 0 ]; then
    say "needs root: it makes networks and containers"
    exit 1
fi
case ${1:-} in
up) up ;;
down) down ;;
run)
    shift
    require_down
    trap down EXIT
    KUBECONFIG=$(up | tail -1)
    export KUBECONFIG
    "$@"
    ;;
answer-names) answer_names ;; # its own
*)
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
    ;;
esac
