#!/bin/sh
# unpack-rabbitmq.sh FOLDER [SUITE]: a later RabbitMQ and its Erlang beside the one that is installed, for
# `pytest --rabbitmq FOLDER`. They come from a later SUITE of Debian (trixie: 4.0; sid: a newer one that moves) through the
# mirror that apt uses here. Nothing is installed, no root is needed, and the system's apt stays as it is: it takes ten
# seconds and 100 MB. Does nothing if FOLDER has one already.
set -eu

suite=${2:-trixie}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ ! -e "$folder/version" ] || exit 0
fail() { echo "$1: the tests on a later RabbitMQ are skipped" >&2; exit 0; }

[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || fail "This system has no keys of Debian's archive"
mirror=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | grep -v security | head -n 1)
[ -n "$mirror" ] || fail "apt has no mirror here"

# An apt of its own, with its own lists, cache and idea of what is installed: nothing.
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/debs" "$folder/root"
: > "$folder/apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$folder/apt/sources.list"
cat > "$folder/apt/conf" <<CONF
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$folder/apt";
Dir::State::lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Languages "none";
CONF
[ "$(id -u)" != 0 ] || echo 'APT::Sandbox::User "root";' >> "$folder/apt/conf"

# Its Erlang needs that suite's C library and others, and a patchelf to be pointed at them.
erlang=""
for part in asn1 base crypto eldap eunit inets mnesia os-mon parsetools public-key runtime-tools ssl syntax-tools tools xmerl; do
    erlang="$erlang erlang-$part"
done
libraries="libc6 libgcc-s1 libstdc++6 libsystemd0 libtinfo6 zlib1g libssl3t64 libsctp1 libcap2 libzstd1"
(
    cd "$folder/debs"
    export APT_CONFIG="$folder/apt/conf"
    # shellcheck disable=SC2086
    apt-get -qq update && apt-get -qq download rabbitmq-server patchelf $erlang $libraries
) || fail "apt can't get RabbitMQ from $suite"
for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$folder/root"; done
rm -rf "$folder/debs" "$folder/apt"

erts=$folder/root/usr/lib/erlang
libraries=$(dirname "$(find "$folder/root" -name libc.so.6 | head -n 1)")
loader=$(find "$libraries" -name 'ld-linux*' | head -n 1)
sed -i "s#ROOTDIR=/usr/lib/erlang#ROOTDIR=$erts#" "$erts"/bin/erl "$erts"/erts-*/bin/erl
patch() { "$loader" --library-path "$libraries" "$folder/root/usr/bin/patchelf" --force-rpath --set-rpath "$libraries" "$@"; }
find "$erts" -type f -perm -u+x | while read -r file; do
    case $file in *.so) continue ;; esac
    if [ "$(head -c 4 "$file" | tail -c 3)" = ELF ]; then patch --set-interpreter "$loader" "$file"; fi
done
find "$erts" -name '*.so' | while read -r file; do patch "$file"; done
ln -sfn "$erts"/erts-*/bin/epmd "$erts/bin/epmd"
# Last, as the sign that all is there.
ls "$folder/root/usr/lib/rabbitmq/lib" | head -n 1 > "$folder/version"
