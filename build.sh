#!/usr/bin/env bash
# The single entry for building, running and checking KiteQ. CI calls nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly module=github.com/kiteq/kiteq
readonly oldest_go=1.26
readonly commands='build run demo test race lint fuzz bench e2e proto docs verify soak dist install-test help'

usage() {
  cat <<'TEXT'
./build.sh [COMMAND]

  build          ./kiteq, the broker, bin/kiteqctl and bin/kiteq-bench (the default; needs only Go)
  run [FLAGS]    build and start the broker; FLAGS go to ./kiteq, see ./kiteq -help
  demo           a membership purchase on a real broker, with producers that die undecided, a barrier on
                 SQLite (left out without a C compiler), and what the broker can explain
  test           everything, with the race detector, a real ZooKeeper, MariaDB, PostgreSQL and Chromium;
                 installs them by apt, and playwright-core by npm, if missing. KITEQ_TEST_ZK, _MYSQL and
                 _POSTGRES name others to use instead. Screenshots of the web page are in .cache/_artifacts.
                 Ten million messages without the race detector, 0.9 GB in TMPDIR
  race           the tests with the race detector, without what is not installed
  e2e            the end-to-end tests only
  soak [KILLS]   the end-to-end kill loop with that many kills (default 200)
  fuzz [TIME]    every fuzz target for TIME each (default 30s)
  bench          the micro-benchmarks, then the broker and the floor in turns; appends both to doc/bench.md.
                 KITEQ_BENCHTIME sets the time of each benchmark (default 300ms), KITEQ_LOADTIME that of
                 each load (default 1s)
  lint           gofmt, vet, staticcheck, vet for darwin, the import table and the style rules
  verify         lint, and: generated code is current, go.mod is tidy
  docs           write the tables of doc/config.md from the program's structs
  dist           bin/dist: static programs for Linux on amd64 and arm64 as tar.gz and .deb, and their SHA256SUMS
  install-test   dist, and the .deb of this machine: installed, run as its user, removed (root, on a machine without kiteq)
  proto          generate internal/protocol/wire from kiteq.proto; installs protoc by apt if missing
TEXT
}

die() {
  echo "build.sh: $*" >&2
  exit 1
}

say() { echo "build.sh: $*" >&2; }

# ---- what must be there ------------------------------------------------------------------------

need_go() {
  command -v go >/dev/null || die "go is not installed: install Go $oldest_go or newer, by your package manager or from the Go project's download page"
  local version
  # Inside the module this names the toolchain that go.mod asks for, fetched when it can be.
  version=$(go env GOVERSION 2>/dev/null) || die "$(go version 2>&1 | head -1) cannot provide Go $oldest_go: install Go $oldest_go or newer, by your package manager or from the Go project's download page"
  version=${version#go}
  [[ $(printf '%s\n' "$oldest_go" "$version" | sort -V | head -1) == "$oldest_go" ]] ||
    die "Go $version is too old: install Go $oldest_go or newer, by your package manager or from the Go project's download page"
}

# need_packages PACKAGE... installs Debian packages.
need_packages() {
  command -v apt-get >/dev/null || die "missing $*, and there is no apt-get to install them with: install them by hand"
  local as_root=()
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || die "missing $*: install them as root (apt-get install $*)"
    as_root=(sudo -n)
  fi
  say "installing $*"
  # An update that fails may still leave good lists: the installation decides.
  "${as_root[@]}" apt-get update -qq >&2 || say "apt-get update failed, going on with the package lists that are there"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null ||
    die "apt-get could not install $*: see its messages above"
}

# The Java libraries of a ZooKeeper server, where Debian puts them.
readonly zookeeper_jars=(/usr/share/java/zookeeper.jar /usr/share/java/slf4j-log4j12.jar /usr/share/java/log4j-1.2.jar)

need_zookeeper() {
  local missing=() jar
  command -v java >/dev/null || missing+=(default-jre-headless)
  for jar in "${zookeeper_jars[@]}"; do
    [[ -e $jar ]] || { missing+=(zookeeper); break; }
  done
  [[ ${#missing[@]} == 0 ]] || need_packages "${missing[@]}"
}

need_mariadb() {
  command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null || need_packages mariadb-server
}

# postgres_directory prints where the newest PostgreSQL's programs are: Debian keeps them out of PATH.
postgres_directory() {
  local newest
  newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -1)
  [[ -x $newest ]] || newest=$(command -v initdb) || return 1
  dirname "$newest"
}

need_postgres() { postgres_directory >/dev/null || need_packages postgresql; }

# The web page is tested in a browser. Of playwright only the part that drives one is installed, here.
readonly playwright_version=1.65.1
need_browser() {
  local home=$PWD/.cache/playwright
  command -v chromium >/dev/null || need_packages chromium
  command -v node >/dev/null || need_packages nodejs
  [[ -n ${KITEQ_TEST_PLAYWRIGHT:-} ]] || {
    grep -qs "\"version\": \"$playwright_version\"" "$home/node_modules/playwright-core/package.json" || {
      command -v npm >/dev/null || need_packages npm
      say "installing playwright-core $playwright_version"
      mkdir -p "$home"
      npm install --prefix "$home" --no-audit --no-fund --loglevel=error "playwright-core@$playwright_version" >&2 </dev/null ||
        die "npm could not install playwright-core: see its messages above"
    }
    export KITEQ_TEST_PLAYWRIGHT=$home
  }
}

# The race detector links C.
need_c() { command -v "${CC:-gcc}" >/dev/null || need_packages gcc libc6-dev; }

need_protoc() { command -v protoc >/dev/null || need_packages protobuf-compiler; }

# ---- cleaning up -------------------------------------------------------------------------------

scratch=''

# cleanup stops the servers. A killed PostgreSQL leaves shared memory behind: it is asked first.
cleanup() {
  local server pid wait
  for server in "$scratch"/*.pid; do
    [[ -n $scratch && -e $server ]] || continue
    pid=$(<"$server")
    [[ $server != */postgres.pid ]] || kill -QUIT "$pid" 2>/dev/null || true
    for ((wait = 0; wait < 30; wait++)); do
      [[ $server == */postgres.pid ]] && kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
  done
  [[ -z $scratch ]] || rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

make_scratch() { [[ -n $scratch ]] || scratch=$(mktemp -d "${TMPDIR:-/tmp}/kiteq-build.XXXXXX"); }

# ---- servers -----------------------------------------------------------------------------------

# begin VARIABLE SERVER starts a server for the tests in the background, unless the variable names one.
begin() {
  [[ -z ${!1:-} ]] || return 0
  "need_$2"
  start "$2" &
  starting+=("$1 $2 $!")
}
starting=()

# await waits for what was begun, and puts into each variable how to reach its server.
await() {
  local variable server job
  while read -r variable server job; do
    [[ -n $job ]] || continue
    wait "$job" || die "$server does not start: see its log above"
    export "$variable=$(<"$scratch/$server.address")"
    say "$server serves on ${!variable}"
  done < <(printf '%s\n' "${starting[@]}")
  starting=()
}

# start SERVER starts it in $scratch/SERVER on a free loopback port. launch_SERVER DIRECTORY PORT starts
# the process, its last; SERVER_serves PORT tells when it is ready; SERVER_address PORT says how to reach it.
start() {
  local server=$1 dir=$scratch/$1 port pid try wait
  for try in 1 2 3; do
    port=$((20000 + RANDOM % 12000)) # below the ports that the kernel gives to outgoing connections
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue
    rm -rf "$dir"
    mkdir -p "$dir"
    "launch_$server" "$dir" "$port" >"$scratch/$server.log" 2>&1 </dev/null || { tail -5 "$scratch/$server.log" >&2; return 1; }
    pid=$(<"$scratch/$server.pid")
    for ((wait = 0; wait < 300; wait++)); do
      kill -0 "$pid" 2>/dev/null || break
      if "${server}_serves" "$port"; then
        "${server}_address" "$port" >"$scratch/$server.address"
        return
      fi
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$scratch/$server.pid"
    say "$server did not start on port $port (attempt $try), its log ends with:"
    tail -5 "$scratch/$server.log" >&2
  done
  return 1
}

# keep PID SERVER notes the process for cleanup.
keep() { echo "$1" >"$scratch/$2.pid"; }

# zookeeper_serves PORT: "srvr" answers only when requests are served, "ruok" earlier.
zookeeper_serves() {
  local answer
  answer=$( (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf srvr >&3 && timeout 1 head -c 17 <&3) 2>/dev/null ) || return 1
  [[ $answer == 'Zookeeper version' ]]
}

zookeeper_address() { echo "127.0.0.1:$1"; }

launch_zookeeper() {
  local conf=$1 port=$2
  mkdir "$conf/data"
  printf '%s\n' 'log4j.rootLogger=WARN, out' 'log4j.appender.out=org.apache.log4j.ConsoleAppender' \
    'log4j.appender.out.layout=org.apache.log4j.SimpleLayout' >"$conf/log4j.properties"
  printf '%s\n' tickTime=200 minSessionTimeout=400 maxSessionTimeout=4000 "dataDir=$conf/data" "clientPort=$port" \
    clientPortAddress=127.0.0.1 admin.enableServer=false maxClientCnxns=0 forceSync=no \
    extendedTypesEnabled=true 4lw.commands.whitelist=ruok,srvr,mntr >"$conf/zoo.cfg"
  java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dzookeeper.admin.enableServer=false \
    -cp "$conf:$(IFS=:; echo "${zookeeper_jars[*]}")" \
    org.apache.zookeeper.server.ZooKeeperServerMain "$conf/zoo.cfg" &
  keep $! zookeeper
}

# mariadb_serves also makes the tests' database: it succeeds when both are there.
mariadb_serves() {
  mariadb --no-defaults --protocol=tcp -h 127.0.0.1 -P "$1" -u root -e 'CREATE DATABASE IF NOT EXISTS kiteq' 2>/dev/null
}

mariadb_address() { echo "root@tcp(127.0.0.1:$1)/kiteq"; }

# Nothing is synced: it is about locks here, not about power cuts.
launch_mariadb() {
  local dir=$1 port=$2 user
  user=$(id -un)
  mariadb-install-db --no-defaults --user="$user" --datadir="$dir" --auth-root-authentication-method=normal --skip-test-db || return 1
  mariadbd --no-defaults --user="$user" --datadir="$dir" --bind-address=127.0.0.1 --port="$port" --socket="$dir/s.sock" \
    --pid-file="$dir/p.pid" --innodb-buffer-pool-size=32M --innodb-flush-log-at-trx-commit=0 &
  keep $! mariadb
}

postgres_serves() { "$(postgres_directory)/pg_isready" -q -h 127.0.0.1 -p "$1"; }

postgres_address() { echo "postgres://kiteq@127.0.0.1:$1/postgres?sslmode=disable"; }

# PostgreSQL refuses to run as root: then it runs as the user that its package made.
launch_postgres() {
  local dir=$1 port=$2 bin as=()
  bin=$(postgres_directory)
  if [[ $(id -u) == 0 ]]; then
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    chmod 711 "$scratch"
    chown postgres "$dir"
  fi
  cd "$dir"
  "${as[@]}" "$bin/initdb" -D "$dir/data" -U kiteq --auth=trust --no-sync --locale=C -E UTF8 || return 1
  "${as[@]}" "$bin/postgres" -D "$dir/data" -h 127.0.0.1 -p "$port" -k '' -c fsync=off &
  keep $! postgres
}

# ---- tests -------------------------------------------------------------------------------------

# go_test ARGUMENTS... is go test whose failures are repeated at the end, where they are looked for.
go_test() {
  local status=0
  make_scratch
  go test "$@" 2>&1 | tee "$scratch/test.log" || status=${PIPESTATUS[0]}
  if [[ $status != 0 ]]; then
    echo
    echo 'What failed:'
    grep -E '^ *--- FAIL|^FAIL[[:space:]]|^panic: |WARNING: DATA RACE' "$scratch/test.log" || tail -20 "$scratch/test.log"
  fi
  return "$status"
}

# packages_with PATTERN prints "package name" for each test function that matches; $scratch is there.
packages_with() {
  go test -list "$1" ./... >"$scratch/list" 2>&1 || { cat "$scratch/list" >&2; die "the tests do not build: see above"; }
  awk -v pattern="$1" '
    $1 == "ok" { for (i = 0; i < n; i++) print $2, names[i]; n = 0; next }
    $1 ~ pattern { names[n++] = $1 }' "$scratch/list"
}

end_to_end_packages() { go list ./internal/e2e/... ./server/... 2>/dev/null; }

# ---- commands ----------------------------------------------------------------------------------

do_build() {
  need_go
  go build -o kiteq .
  echo 'built ./kiteq'
  go build -o bin/kiteqctl ./cmd/kiteqctl
  echo 'built bin/kiteqctl'
  go build -o bin/kiteq-bench ./cmd/kiteq-bench
  echo 'built bin/kiteq-bench'
}

do_run() {
  local topic=message registry='' arg
  for arg in "$@"; do
    case $arg in
    -topics=* | --topics=*) topic=${arg#*=} topic=${topic%%,*} ;;
    -zkhost=embedded://[0-9]* | --zkhost=embedded://[0-9]*) registry=${arg#*://} registry=" --zkhost ${registry%%\?*}" ;;
    -zkhost=embedded* | --zkhost=embedded*) ;;
    -zkhost=* | --zkhost=*) registry=" --zkhost ${arg#*=}" ;;
    esac
  done
  do_build
  cat <<TEXT

The broker starts here; Ctrl-C stops it. Try it from two other terminals, the subscriber first:

  bin/kiteqctl sub$registry $topic pay-succ --group s-members
  bin/kiteqctl pub$registry $topic pay-succ 'member 42 paid'

TEXT
  exec ./kiteq "$@"
}

do_demo() {
  do_build
  go build -o bin/kiteq-demo ./internal/demo
  echo 'built bin/kiteq-demo'
  bin/kiteq-demo -kiteq ./kiteq "$@"
}

do_test() {
  need_go
  need_c
  make_scratch
  begin KITEQ_TEST_ZK zookeeper
  begin KITEQ_TEST_MYSQL mariadb
  begin KITEQ_TEST_POSTGRES postgres
  need_browser
  do_build
  await
  rm -rf .cache/_artifacts
  # What is missing now fails instead of being skipped.
  KITEQ_TEST_REQUIRE=1 go_test -race -count=1 -timeout 10m -artifacts -outputdir "$PWD/.cache" ./...
  (cd client/otel && go_test -race -count=1 -timeout 5m ./...)
  # Ten million messages are too many for the race detector, which skips them above.
  go_test -v -count=1 -timeout 5m -run='^TestBacklogCostsNoMemory$' ./server
  # Twenty times two of three brokers, under a load that the race detector would slow down to nothing.
  KITEQ_TAKEOVER_CLUSTERS=4 KITEQ_TAKEOVERS=5 KITEQ_TAKEOVER_MESSAGES=20000 go_test -v -count=1 -timeout 10m -run='^TestTakeoverLoop$' ./internal/e2e
}

do_race() {
  need_go
  need_c
  go_test -race -count=1 -timeout 5m ./...
  (cd client/otel && go_test -race -count=1 -timeout 5m ./...)
}

do_e2e() {
  need_go
  need_c
  do_build
  local packages
  mapfile -t packages < <(end_to_end_packages)
  go_test -race -count=1 -timeout 5m "$@" "${packages[@]}"
}

do_soak() {
  need_go
  local kills=${1:-200}
  [[ $kills =~ ^[1-9][0-9]*$ ]] || die "$kills is no number of kills: write it as 200"
  do_build
  # One package: go test shows what several say only at their end.
  KITEQ_SOAK=$kills go_test -count=1 -timeout 0 -v -run='^TestKillLoop$' ./internal/e2e
}

check_time() {
  [[ $1 =~ ^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$ ]] || die "$1 is no time: write it as 30s, 5m or 1h"
}

# fuzz_one PACKAGE NAME TIME fuzzes one target. When the time is over while a worker is in an input, go
# test may report "context deadline exceeded" and no input: that is no finding, and tried once more.
fuzz_one() {
  local try
  for try in 1 2; do
    ! go test -run='^$' -fuzz="^$2\$" -fuzztime="$3" "$1" </dev/null 2>&1 | tee "$scratch/fuzz" || return 0
    if [[ $try == 2 ]] || grep -q 'Failing input written' "$scratch/fuzz" || ! grep -q 'context deadline exceeded' "$scratch/fuzz"; then
      return 1
    fi
  done
}

do_fuzz() {
  need_go
  local time=${1:-30s} package name targets=0 failed=()
  check_time "$time"
  make_scratch
  packages_with '^Fuzz' >"$scratch/targets"
  while read -r package name; do
    echo "== $package $name"
    fuzz_one "$package" "$name" "$time" || failed+=("$package.$name")
    targets=$((targets + 1))
  done <"$scratch/targets"
  [[ $targets != 0 ]] || die 'found no fuzz target'
  [[ ${#failed[@]} == 0 ]] ||
    die "${#failed[@]} of $targets fuzz targets failed: ${failed[*]}: the input lies below the package's testdata/fuzz, keep it as a seed with the fix"
  echo "$targets fuzz targets passed, $time each"
}

do_bench() {
  need_go
  local packages class
  make_scratch
  do_build
  packages_with '^Benchmark' >"$scratch/benchmarks"
  mapfile -t packages < <(cut -d' ' -f1 "$scratch/benchmarks" | sort -u)
  [[ ${#packages[@]} != 0 ]] || die 'found no benchmark'
  go test -run='^$' -bench=. -benchmem -benchtime="${KITEQ_BENCHTIME:-300ms}" -p 1 -timeout 30m "$@" "${packages[@]}" |
    tee "$scratch/micro"
  # Its files are below ./data, as the broker's are: the system's temporary directory may be in memory.
  for class in synced written; do
    bin/kiteq-bench -mode compare -class "$class" -d "${KITEQ_LOADTIME:-1s}" -commit "$(commit)" -machine "$(machine)" | tee "$scratch/$class"
  done
  # Only a run that came to its end is kept.
  {
    echo
    cat "$scratch/synced"
    echo
    cat "$scratch/written"
    printf '\n<details><summary>Micro-benchmarks of the same run</summary>\n\n```\n'
    grep -E '^(pkg:|Benchmark)' "$scratch/micro"
    printf '```\n\n</details>\n'
  } >>doc/bench.md
  say 'appended to doc/bench.md'
}

# commit names the tree: "abc1234", "abc1234 (changed)".
commit() {
  local changed=''
  [[ -z $(git status --porcelain -uno 2>/dev/null) ]] || changed=' (changed)'
  echo "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)$changed"
}

# machine names the processor; nothing else of it is anybody's business.
machine() { sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo 2>/dev/null | head -1 | grep . || uname -m; }

# generate DIRECTORY writes the generated code below it.
generate() {
  need_protoc
  protoc --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" --go_out="$1" --go_opt=module="$module" \
    internal/protocol/kiteq.proto
}

do_proto() {
  need_go
  generate .
  echo 'generated internal/protocol/wire/kiteq.pb.go'
}

do_docs() {
  need_go
  go run ./internal/configdoc
  echo 'wrote the tables of doc/config.md'
}

# check NAME COMMAND... runs the command, shows what it says only when it fails, and counts that.
failures=0
check() {
  local name=$1
  shift
  if "$@" >"$scratch/check.log" 2>&1; then
    echo "ok    $name"
    return
  fi
  failures=$((failures + 1))
  echo "FAIL  $name"
  sed 's/^/      /' "$scratch/check.log"
}

formatted() {
  local files
  files=$(git ls-files -co --exclude-standard '*.go')
  # A file may be deleted and not yet committed.
  files=$(for f in $files; do [[ ! -e $f ]] || echo "$f"; done)
  # shellcheck disable=SC2086 # no name of a Go file has a space
  files=$(gofmt -s -l $files) || return 1
  [[ -z $files ]] || { echo "run gofmt -s -w on:"; echo "$files"; return 1; }
}

generated_current() {
  generate "$scratch" || return 1
  # Which protoc it was does not matter.
  diff -I '^// .*protoc  *v' "$scratch/internal/protocol/wire/kiteq.pb.go" internal/protocol/wire/kiteq.pb.go ||
    { echo 'internal/protocol/wire is not what kiteq.proto gives: run ./build.sh proto'; return 1; }
}

static_checks() {
  check 'gofmt' formatted
  check 'go vet' go vet ./...
  check 'go vet of client/otel' go -C client/otel vet ./...
  check 'staticcheck' go tool staticcheck ./...
  check 'go vet for darwin' env GOOS=darwin CGO_ENABLED=0 go vet ./...
  check 'import table and style rules' go test -count=1 ./internal/lint
}

conclude() {
  [[ $failures == 0 ]] || die "$failures of the checks failed: see above"
}

do_lint() {
  need_go
  make_scratch
  static_checks
  conclude
}

do_verify() {
  need_go
  need_protoc
  make_scratch
  static_checks
  check 'generated code' generated_current
  check 'go mod tidy' go mod tidy -diff
  check 'go mod tidy of client/otel' go -C client/otel mod tidy -diff
  conclude
}

# shellcheck source=conf/dist/dist.sh
source conf/dist/dist.sh

command=${1:-build}
[[ $# == 0 ]] || shift
case " $commands " in
*" $command "*) ;;
*) case $command in
  -h | --help) command=help ;;
  *) die "unknown command \"$command\": use one of $commands" ;;
  esac ;;
esac
case $command in
help) usage ;;
*) "do_${command//-/_}" "$@" ;;
esac
