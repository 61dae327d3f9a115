# A store that cannot be written: erofs, or any filesystem that is mounted "ro". It is NOT a NixOS module: default.nix
# calls it.
{
  config,
  fileSystems,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  inherit (fileSystems) isSealed nixFs;

  cfg = config.sane.image;
  initrd = config.boot.initrd or { };
  option = ''fileSystems."${nixFs.mountPoint}"'';
  isErofs = nixFs != null && nixFs.fsType == "erofs";
  isZstd = cfg.erofsCompression != null && lib.hasPrefix "zstd" cfg.erofsCompression;

  # A list in older versions of nixpkgs.
  supported = initrd.supportedFilesystems or { };
  hasErofs =
    (if builtins.isList supported then lib.elem "erofs" supported else supported.erofs or false)
    || lib.elem "erofs" ((initrd.availableKernelModules or [ ]) ++ (initrd.kernelModules or [ ]));
  kernel = config.boot.kernelPackages.kernel.version;
in
{
  errors =
    lib.optional (isErofs && nixFs.mountPoint == "/") (
      ''${option}.fsType is "erofs", which nobody can write to, but a system writes to /etc and /var; set ''
      + ''${option} to { device = "none"; fsType = "tmpfs"; options = [ "mode=755" ]; }, and ''
      + ''fileSystems."/nix/store" to what it is now''
    )
    ++ lib.optional (isErofs && !hasErofs) (
      ''${option}.fsType is "erofs", which the initrd cannot mount; add boot.initrd.supportedFilesystems.erofs = true''
    )
    ++ lib.optional (cfg.erofsCompression != null && nixFs != null && !isErofs) (
      ''sane.image.erofsCompression is "${cfg.erofsCompression}", but ${option}.fsType is "${nixFs.fsType}"; ''
      + "set that to \"erofs\", or sane.image.erofsCompression to null"
    )
    ++ lib.optional (isErofs && isZstd && builtins.compareVersions kernel "6.10" < 0) (
      ''sane.image.erofsCompression is "${cfg.erofsCompression}", but the kernel is ${kernel}, and reads zstd in ''
      + ''an erofs from 6.10 on; set it to "lz4", or boot.kernelPackages to a newer kernel''
    );

  warnings = lib.optionals isSealed (
    lib.optional cfg.growNixPartition (
      "sane.image.growNixPartition is true, but ${option} cannot be written, and never grows; remove it"
    )
    ++ lib.optional (cfg.nixFreeSpace != 0) (
      "sane.image.nixFreeSpace is ${toString cfg.nixFreeSpace}, but ${option} cannot be written, and needs nothing free; "
      + "remove it"
    )
  )
  ++ lib.optional (isErofs && !(nixFs.noCheck or true)) (
    "fsck reads all of ${option} at boot, and could mend nothing of an erofs; add ${option}.noCheck = true"
  );

  spec = lib.optionalAttrs (cfg.erofsCompression != null) { inherit (cfg) erofsCompression; };

  options = {
    erofsCompression = mkOption {
      type = types.nullOr (types.strMatching "lz4|zstd(:([1-9]|1[0-9]|2[0-2]))?");
      default = null;
      example = "zstd:3";
      description = ''
        How the files of a store on erofs are compressed: `lz4`, `zstd` or `zstd:` with a level from 1 to 22; null for
        not at all. Kernels from 6.10 on read zstd.
      '';
    };
  };
}
