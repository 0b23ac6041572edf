#!/bin/sh
# fetch-qpid.sh FOLDER: Qpid Broker-J for tests and `make hybrid BROKER=qpid`, from Maven Central into FOLDER/lib: 36 MB,
# some ten seconds. Installs Debian's maven and a Java runtime if there are none. Does nothing if FOLDER has it already;
# several may run at once.
set -eu

version=10.1.0
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ ! -e "$folder/version" ] || exit 0
fail() { echo "$1: the tests on Qpid Broker-J are skipped" >&2; exit 0; }

missing=""
command -v java >/dev/null 2>&1 || missing="default-jre-headless"
command -v mvn >/dev/null 2>&1 || missing="$missing maven"
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null 2>&1 || fail "Missing: $missing; install it with this system's package manager"
    if [ "$(id -u)" = 0 ]; then as_root=""; else as_root="sudo"; fi
    echo "Installing $missing"
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

# Each run has a folder of its own, and the first that has all puts it in its place.
work=$(mktemp -d "$folder/fetching-XXXXXX")
trap 'rm -rf "$work"' EXIT
# Left out: stores in Berkeley DB, which Maven Central does not have, and the management by HTTP.
exclusions=""
for part in bdbstore broker-plugins-amqp-1-0-protocol-bdb-link-store broker-plugins-management-http broker-plugins-websocket; do
    exclusions="$exclusions<exclusion><groupId>org.apache.qpid</groupId><artifactId>qpid-$part</artifactId></exclusion>"
done
cat > "$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>marconi</groupId><artifactId>qpid</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.qpid</groupId><artifactId>qpid-broker</artifactId><version>$version</version>
      <exclusions>$exclusions</exclusions>
    </dependency>
  </dependencies>
</project>
POM
mvn --quiet --batch-mode -Dstyle.color=never --file "$work/pom.xml" -Dmaven.repo.local="$work/repository" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/lib" \
    || fail "Maven can't get Qpid Broker-J $version"
mv -T "$work/lib" "$folder/lib" 2>/dev/null || [ -e "$folder/lib" ]
# Last, as the sign that all is there.
echo "$version" > "$folder/version"
