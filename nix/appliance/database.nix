# Nix's database in the image, so that nothing has to be registered at the first boot. It is NOT a NixOS module:
# default.nix calls it.
{
  config,
  fileSystems,
  lib,
  ...
}:
let
  inherit (lib) literalMD mkOption types;
  inherit (fileSystems) isReadOnly nixFs;

  cfg = config.sane.image;
  # Nix's own is on the store's filesystem.
  isStuck = (fileSystems.above "/nix/var/nix/db").mountPoint or null == nixFs.mountPoint;
in
{
  warnings = lib.optional (cfg.nixDatabase && isReadOnly && isStuck) (
    ''fileSystems."${nixFs.mountPoint}" is read-only and has /nix/var/nix/db, too, so that Nix cannot work; ''
    + lib.optionalString (!fileSystems.isSealed) ''remove "ro" from its options, or ''
    + ''mount a filesystem at /nix/var that can be written, and add "/nix/var" to sane.image.extraDirectories''
  );

  # Nix cannot make it there, and does not start without it.
  extraDirectories = lib.optional (cfg.nixDatabase && isReadOnly) "${fileSystems.store}/.links";

  spec = lib.optionalAttrs cfg.nixDatabase { nixDatabase = true; };

  # Else Nix gives the store to the group of its builders whenever root calls it, which fails there. Nothing is built.
  nixSettings = lib.optionalAttrs (cfg.nixDatabase && isReadOnly) {
    build-users-group = lib.mkDefault "";
  };

  options.nixDatabase = mkOption {
    type = types.bool;
    default = isReadOnly && config.nix.enable;
    defaultText = literalMD "whether the store is read-only, and `nix.enable` is true";
    example = true;
    description = ''
      Whether the image has Nix's database of its store paths, so that the first boot does not make it. If the store's
      filesystem has {file}`/nix/var/nix` and can be written, it is there from the start. Otherwise each boot copies
      it to {file}`/nix/var/nix/db` if there is none, or one of another version of the image.
    '';
  };
}
