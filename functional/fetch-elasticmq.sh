#!/bin/sh
# fetch-elasticmq.sh FOLDER: ElasticMQ for `python -m functional.peers.compare --part fifo`, from Maven Central into
# FOLDER/lib: 40 MB, some ten seconds. Needs Maven; does nothing if FOLDER has it already; several may run at once.
set -eu

version=1.7.1
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ ! -e "$folder/version" ] || exit 0
if ! command -v mvn >/dev/null 2>&1; then
    echo "Maven is missing; install it: apt-get install maven" >&2
    exit 1
fi

# Each run has a folder of its own, and the first that has all puts it in its place.
work=$(mktemp -d "$folder/fetching-XXXXXX")
trap 'rm -rf "$work"' EXIT
cat > "$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>marconi</groupId><artifactId>elasticmq</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.elasticmq</groupId><artifactId>elasticmq-server_2.13</artifactId><version>$version</version>
    </dependency>
  </dependencies>
</project>
POM
mvn --quiet --batch-mode -Dstyle.color=never --file "$work/pom.xml" -Dmaven.repo.local="$work/repository" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/lib"
mv -T "$work/lib" "$folder/lib" 2>/dev/null || [ -e "$folder/lib" ]
# Last, as the sign that all is there.
echo "$version" > "$folder/version"
