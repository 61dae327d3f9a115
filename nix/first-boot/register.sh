#!/bin/sh
# Tells Nix of the store paths that came with the image, and makes the running system the first generation
# of its profile.
#
#   register.sh MOUNT_POINT
#
# MOUNT_POINT is that of the filesystem that holds the store. Uses util-linux and Nix.
set -eu
mount_point=$1
# Where sane-image puts the list of all store paths of the image.
registration=${mount_point%/}/nix-path-registration

# The store may be mounted read-only. In the service's own mounts, it is not.
mount -o remount,bind,rw "$mount_point"

nix-store --load-db < "$registration"

# What nixos-rebuild needs besides.
nix-env --profile /nix/var/nix/profiles/system --set /run/current-system
touch /etc/NIXOS

# A database in memory is empty again at the next boot.
if [ "$(stat --file-system --format=%T /nix/var/nix/db)" != tmpfs ]; then
  rm "$registration"
fi
