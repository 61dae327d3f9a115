#!/usr/bin/env bash
# Tells Nix of the store paths that came with the image, and makes the running system the first generation
# of its profile.
#
#   register.sh MOUNT_POINT
#
# MOUNT_POINT is that of the filesystem that holds the store. Uses util-linux and Nix.
#
# The list of the paths is removed last, when what was made of it is safely on the disk. Where that comes to a
# halt before, by a failure or a power cut, the next boot does what is still to be done and no more.
set -euo pipefail
mount_point=$1
# Where sane-image puts the list of all store paths of the image.
registration=${mount_point%/}/nix-path-registration
store=/nix/store
database=/nix/var/nix/db
profile=/nix/var/nix/profiles/system

[ -e "$registration" ] || exit 0

# Without them, Nix asks /etc/passwd, which the first boot may be making at this very moment (systemd.sysusers,
# services.userborn).
export HOME="${HOME:-/root}" USER="${USER:-root}"

# Says why Nix cannot work here at all. That is no failure of this boot, and no other boot would mend it.
give_up() {
  echo "Nix is not told of the store paths that came with the image: $1"
  exit 0
}

# The store may be mounted read-only, by itself as well. In the service's own mounts, it is not.
mount -o remount,bind,rw "$mount_point"
! mountpoint --quiet "$store" || mount -o remount,bind,rw "$store"

# Nix makes them, where it can.
can_write() {
  local place=$1
  until [ -e "${place:-/}" ]; do place=${place%/*}; done
  [ -w "${place:-/}" ]
}
[ -e "$store/.links" ] || can_write "$store/.links" ||
  give_up "$store is read-only, and lacks .links, which Nix needs; name $store/.links in sane.image.extraDirectories"
can_write "$database" || give_up "$database is on a read-only filesystem"
mkdir -p "$store/.links" "$database" "${profile%/*}"

# A power cut while Nix made its database may have left this without contents. Nix would not forgive that, but
# makes the rest of the database when it is missing.
[ -s "$database/schema" ] || rm -f "$database/schema"

# Calls $1 for each record of the list $2: a path, a hash, a size, a deriver, the number of references, and the
# references, a line each, all with a = before: no line is empty then, and so none gets lost. A record that is cut
# off is none.
each_record() {
  local line at=0 end=5 IFS=$'\n'
  for line in $2; do
    line=${line#=}
    case $at in
      0) path=$line record=$line references='' ;;
      1 | 2 | 3) record+=$'\n'$line ;;
      4)
        [[ $line =~ ^[0-9]+$ ]] || { echo "the list of store paths has no number of references of $path" >&2; exit 1; }
        end=$((5 + 10#$line)) record+=$'\n'$line
        ;;
      *) references+=$'\n'$line record+=$'\n'$line ;;
    esac
    if ((++at > 4 && at == end)); then
      at=0
      "$1"
    fi
  done
}
set -o noglob
declare -A known record_of references_of
paths=()

is_there() { [ -e "$1" ] || [ -L "$1" ]; }
remember_known() { known[$path]=1; }
remember_new() {
  if [ -z "${known[$path]-}" ] && is_there "$path"; then
    paths+=("$path")
    record_of[$path]=$record references_of[$path]=$references
  fi
}

# Nix takes no path without all that it refers to; and of one such path, it would take none of the others.
drop_incomplete() {
  local path reference dropped=1
  while ((dropped)); do
    dropped=0
    for path in "${!record_of[@]}"; do
      for reference in ${references_of[$path]}; do
        if [ -z "${known[$reference]-}${record_of[$reference]:+1}" ]; then
          unset "record_of[$path]"
          dropped=1
          break
        fi
      done
    done
  done
}

# Prints the records of the paths that are there, and that Nix does not know.
print_new() {
  local list path
  if [ -s "$database/db.sqlite" ]; then
    list=$(nix-store --dump-db | sed s/^/=/)
    each_record remember_known "$list"
  fi
  list=$(sed s/^/=/ "$registration")
  each_record remember_new "$list"
  drop_incomplete
  for path in "${paths[@]}"; do
    [ -z "${record_of[$path]-}" ] || printf '%s\n' "${record_of[$path]}"
  done
}

# Whether that is the whole list, as it is where all goes well.
all_are_new() {
  local listed path
  [ ! -s "$database/db.sqlite" ] || return
  listed=$(sed -n '\|^/|p' "$registration" | sort -u) || return
  for path in $listed; do
    is_there "$path" || return
  done
}

# All of them or none: it is one transaction.
doubtful=
if all_are_new; then
  nix-store --load-db < "$registration"
else
  doubtful=1
  print_new | nix-store --load-db
fi

# A database in memory is empty again at the next boot. What was built since the image, Nix has forgotten then.
in_memory=
case $(stat --file-system --format=%T "$database") in
  tmpfs | ramfs) in_memory=1 ;;
esac

# What nixos-rebuild needs besides. Not again: since then, another system may have become the profile.
if [ -L "$profile" ]; then
  :
elif [ -n "$doubtful$in_memory" ] && ! nix-store --check-validity /run/current-system 2> /dev/null; then
  echo "the running system does not become the profile: not all of it came with the image and is still there"
else
  nix-env --profile "$profile" --set /run/current-system
fi

[ -z "$in_memory" ] || exit 0

# A list that stays does no harm. One that goes before the rest is on the disk would be missed after a power cut.
sync --file-system "$database" "${profile%/*}"
if [ -w "$mount_point" ]; then
  rm "$registration"
  sync --file-system "$mount_point"
fi
