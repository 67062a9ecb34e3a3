# Packages: sourced by build.sh, which has said, die, need_go, check and $scratch.
#
# The same commit makes the same bytes on every machine: paths are trimmed, times are that of the commit, entries are
# sorted, and owners are root.

# dist_version prints the version of the packages, as dpkg orders them: 0~DATE.COMMIT before the first tag.
dist_version() {
  local tag
  if tag=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
    echo "${tag#v}"
  else
    echo "0~$(git log -1 --format=%cd --date=format:%Y%m%d%H%M%S).$(git rev-parse --short=10 HEAD)"
  fi
}

# dist_binaries ARCH builds the static programs.
dist_binaries() {
  local arch=$1 into=bin/dist/linux-$1 name
  mkdir -p "$into"
  for name in . ./cmd/kiteqctl ./cmd/kiteq-bench; do
    CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -ldflags='-s -w -buildid=' -o "$into/" "$name"
  done
}

# dist_tree ARCH DIR lays out what both packages have.
dist_tree() {
  local arch=$1 root=$2
  install -D -m 0755 -t "$root/usr/bin" bin/dist/linux-"$arch"/*
  install -D -m 0644 -t "$root/etc/kiteq" conf/kiteq.toml
  install -D -m 0644 -t "$root/lib/systemd/system" conf/dist/kiteq.service
  install -D -m 0644 -t "$root/usr/share/doc/kiteq" README.md CHANGELOG.md doc/*.md
  install -D -m 0644 -t "$root/usr/share/man/man8" conf/dist/kiteq.8
  mkdir -p "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions"
  "$host_kiteqctl" docs "$root/usr/share/man/man1"
  "$host_kiteqctl" completion bash >"$root/usr/share/bash-completion/completions/kiteqctl"
  gzip -9n "$root"/usr/share/man/man*/*
}

# dist_deb ARCH VERSION TREE makes the Debian package.
dist_deb() {
  local arch=$1 version=$2 root=$3 size
  size=$(du -sk --apparent-size "$root" | cut -f1)
  mkdir -p "$root/DEBIAN"
  sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/" conf/dist/deb/control.in >"$root/DEBIAN/control"
  install -m 0644 -t "$root/DEBIAN" conf/dist/deb/conffiles
  install -m 0755 -t "$root/DEBIAN" conf/dist/deb/postinst conf/dist/deb/prerm conf/dist/deb/postrm
  find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zgzip --build "$root" "bin/dist/kiteq_${version}_$arch.deb" >/dev/null
  echo "built bin/dist/kiteq_${version}_$arch.deb"
}

do_dist() {
  local version arch root
  need_go
  command -v dpkg-deb >/dev/null || need_packages dpkg
  make_scratch
  umask 022
  [[ -z $(git status --porcelain) ]] || say 'there are changes that are not committed: the packages have them, and the version of the commit'
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
  export SOURCE_DATE_EPOCH
  version=$(dist_version)
  rm -rf bin/dist
  host_kiteqctl=$scratch/kiteqctl
  go build -trimpath -o "$host_kiteqctl" ./cmd/kiteqctl
  for arch in amd64 arm64; do
    dist_binaries "$arch"
    root=$scratch/tree-$arch
    dist_tree "$arch" "$root"
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=gnu \
      --transform="s,^\.,kiteq-$version," -C "$root" -cf - . | gzip -9n >"bin/dist/kiteq-$version-linux-$arch.tar.gz"
    echo "built bin/dist/kiteq-$version-linux-$arch.tar.gz"
    dist_deb "$arch" "$version" "$root"
  done
  (cd bin/dist && sha256sum ./*.deb ./*.tar.gz >SHA256SUMS)
  echo 'built bin/dist/SHA256SUMS'
}

# do_install_test installs the package on this machine, starts the broker under its user, asks it, and removes all.
do_install_test() {
  local deb wait
  [[ $(id -u) == 0 ]] || die 'install-test installs a package: run it as root, on a machine that has no kiteq'
  ! dpkg-query -W kiteq >/dev/null 2>&1 || die 'kiteq is installed on this machine: install-test would remove it'
  do_dist
  command -v adduser >/dev/null || need_packages adduser
  deb=$(echo bin/dist/kiteq_*_"$(dpkg --print-architecture)".deb)
  dpkg -i "$deb"
  (cd /var/lib/kiteq && exec setpriv --reuid=kiteq --regid=kiteq --clear-groups \
    /usr/bin/kiteq -configPath=/etc/kiteq/kiteq.toml -bind=127.0.0.1:23800 -zkhost='embedded://127.0.0.1:22181?data=data/registry') &
  keep $! kiteq
  for ((wait = 0; wait < 100; wait++)); do
    kiteqctl --zkhost 127.0.0.1:22181 pub message try 'one message' --group p-try >/dev/null 2>&1 && break
    sleep 0.1
  done
  kiteqctl --zkhost 127.0.0.1:22181 topics
  kiteqctl --zkhost 127.0.0.1:22181 pub message try 'another one' --group p-try
  [[ $(stat -c %U /var/lib/kiteq/data/journal) == kiteq ]] || die 'the journal is not the service user'\''s'
  kill "$(<"$scratch/kiteq.pid")" && wait "$(<"$scratch/kiteq.pid")"
  rm "$scratch/kiteq.pid"
  dpkg -r kiteq
  [[ -e /etc/kiteq/kiteq.toml && -d /var/lib/kiteq/data ]] || die 'a removal took configuration or data with it'
  rm -r /var/lib/kiteq/data
  dpkg -P kiteq
  [[ ! -e /etc/kiteq && ! -e /var/lib/kiteq ]] || die 'a purge left something behind'
  ! getent passwd kiteq >/dev/null || die 'a purge left the user behind'
  echo 'install-test: ok'
}
