# A shell sources each file of a directory, in the order of their numbers, and leaves its
# environment beside it. Runs under bash and dash.
cd "$1" || exit
count=$2
number=0
while [ "$number" -lt "$count" ]; do
  (
    set -a
    . "./$number.env"
    exec /usr/bin/env -0 >"$number.out"
  ) 2>/dev/null # a shell complains about some names and takes them
  number=$((number + 1))
done
