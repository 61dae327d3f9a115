#!/bin/sh
# Copies Nix's database, which came with the image, to where Nix can write to it.
#
#   database.sh MOUNT_POINT
#
# MOUNT_POINT is that of the filesystem that holds the store, which cannot be written. Uses coreutils.
#
# A copy remembers what it is a copy of, so that the next version of the image replaces it. A database that is no copy
# is somebody's own, and stays. After a power cut, the next boot does what is still to be done: until the copy is whole,
# there is no database.
set -eu
image=${1%/}/nix-database
database=/nix/var/nix/db
origin=$database/sane-image

sum=$(sha256sum < "$image/db.sqlite")
if [ -e "$database/db.sqlite" ]; then
  if [ ! -e "$origin" ]; then
    echo "$database has a database that did not come with an image, and keeps it"
    exit 0
  fi
  [ "$(cat "$origin")" != "$sum" ] || exit 0
fi

if ! mkdir -p "$database" 2> /dev/null || [ ! -w "$database" ]; then
  echo "$database is on a read-only filesystem, so that Nix cannot work; mount one at /nix/var that can be written"
  exit 0
fi
# What belongs to another database goes first, lest Nix apply it to this one.
rm -f "$database/db.sqlite-wal" "$database/db.sqlite-shm" "$database/db.sqlite-journal"
rm -f "$database/db.sqlite" "$origin"
echo "$sum" > "$origin"
install -m 644 "$image/schema" "$database/schema"
install -m 644 "$image/db.sqlite" "$database/new.sqlite"
sync "$database/new.sqlite" "$database/schema" "$origin"
mv "$database/new.sqlite" "$database/db.sqlite"
sync "$database"
