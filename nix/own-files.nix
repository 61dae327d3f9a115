# The host's own files as the spec has them, and the mistakes in them. It is NOT a NixOS module:
# module.nix calls it.
#
# sane-image decides where a file can be. Only the host knows the numbers of users and groups.
{ config, lib }:
let
  inherit (config) users;
  own = config.sane.image.files;

  # The number that the host fixes for a user or a group; null if it fixes none.
  numberOf =
    known: field: owner:
    if builtins.isInt owner then
      owner
    else if owner == "root" then
      0
    else
      known.${owner}.${field} or null;
  uidOf = numberOf (users.users or { }) "uid";
  gidOf = numberOf (users.groups or { }) "gid";

  mistakesOf =
    target: file:
    let
      option = ''sane.image.files."${target}"'';
      mistake =
        field: numbered:
        ''${option}.${field} is "${file.${field}}", which has no fixed number; ''
        + "set ${numbered}, or use a number";
    in
    lib.optional (uidOf file.user == null) (mistake "user" "users.users.${file.user}.uid")
    ++ lib.optional (gidOf file.group == null) (mistake "group" "users.groups.${file.group}.gid");
in
{
  errors = lib.concatMap (target: mistakesOf target own.${target}) (lib.attrNames own);

  files = map (
    target:
    let
      file = own.${target};
    in
    {
      inherit target;
      inherit (file)
        directory
        mode
        symlink
        text
        ;
      # A path of the configuration becomes one of the store.
      source = if file.source == null then null else "${file.source}";
      uid = uidOf file.user;
      gid = gidOf file.group;
    }
  ) (lib.attrNames own);
}
