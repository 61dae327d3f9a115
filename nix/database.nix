# The derivation of Nix's own database of an image's store paths: a directory with `db.sqlite` and `schema`. It is NOT a
# NixOS module: image.nix calls it.
#
# Nix makes it of the list that an image has anyway. The same list gives the same bytes: the time of registration is
# fixed, and SQLite writes the file anew, without what is left of its work.
{
  buildPackages,
  closureInfo,
  name,
}:
buildPackages.runCommand "${name}-nix-database"
  {
    nativeBuildInputs = [
      buildPackages.nix
      buildPackages.sqlite
    ];
    inherit closureInfo;
  }
  ''
    mkdir conf
    export HOME=$PWD USER=nobody NIX_CONF_DIR=$PWD/conf
    # The paths are those of this store, but nothing is looked for or written there.
    export NIX_STORE_DIR=${builtins.storeDir} NIX_REMOTE="local?root=$PWD/root"
    unset NIX_STATE_DIR NIX_LOCALSTATE_DIR NIX_LOG_DIR
    nix-store --load-db < "$closureInfo/registration"

    db=$(echo root/*/var/nix/db)
    sqlite3 -bail "$db/db.sqlite" > /dev/null <<'END'
    PRAGMA journal_mode = DELETE;
    UPDATE ValidPaths SET registrationTime = 1;
    VACUUM;
    END
    mkdir "$out"
    cp "$db/db.sqlite" "$db/schema" "$out"
  ''
