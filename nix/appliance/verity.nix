# dm-verity: the store's filesystem proves itself at each read, and the kernel command line says what it must prove. It
# is NOT a NixOS module: default.nix calls it.
#
# systemd opens it in the initrd, as /dev/mapper/usr or /dev/mapper/root after `usrhash=` or `roothash=`.
{
  config,
  fileSystems,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  inherit (fileSystems) nixFs;
  inherit (config.boot) initrd;

  cfg = config.sane.image;
  enable = cfg.verity.enable && nixFs != null;
  option = ''fileSystems."${nixFs.mountPoint}"'';

  architecture = import ./architecture.nix pkgs.stdenv.hostPlatform;

  # The modules of `initrd.systemd.dmVerity` say the same, but not that an image is asked for.
  needs = lib.optionals enable (
    lib.optional (!(initrd.systemd.enable or false)) "boot.initrd.systemd.enable"
    ++ lib.optional (!(initrd.systemd.dmVerity.enable or false)) "boot.initrd.systemd.dmVerity.enable"
  );
in
{
  errors =
    map (
      needed: "sane.image.verity.enable is true, but the initrd cannot open a sealed store; add ${needed} = true"
    ) needs
    ++ lib.optional (enable && architecture == null) (
      "sane.image.verity.enable is true, but there are no partition types for ${pkgs.stdenv.hostPlatform.efiArch}; set it to false"
    )
    ++ lib.optional (enable && nixFs.mountPoint == "/" && nixFs.fsType != "erofs") (
      ''sane.image.verity.enable is true, and nobody can write to ${option} then, but a system writes to /etc and ''
      + ''/var; set ${option} to { device = "none"; fsType = "tmpfs"; options = [ "mode=755" ]; }, and ''
      + ''fileSystems."/nix/store" to what it is now''
    )
    ++ lib.optional (enable && nixFs.fsType != "erofs" && !lib.elem "ro" nixFs.options) (
      ''sane.image.verity.enable is true, but ${option} is not mounted read-only; add "ro" to ${option}.options''
    );

  warnings = lib.optional (enable && !cfg.uki.enable) (
    "sane.image.verity.enable is true, but nothing gives the root hash to the kernel; set sane.image.uki.enable to "
    + "true, or add usrhash= or roothash= to the kernel command line yourself: layout.json beside the image has it"
  );

  # Without this, systemd would also mount /dev/mapper/usr at /usr, whatever `fileSystems` says.
  kernelParams = lib.optional (enable && nixFs.device == "/dev/mapper/usr") "mount.usr=fstab";

  spec = lib.optionalAttrs enable { verity = { inherit architecture; }; };

  options.verity = {
    enable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the filesystem of the store is sealed by dm-verity: the kernel proves each block at each read. The
        hashes get a partition of their own. The device in {option}`fileSystems` must be {file}`/dev/mapper/usr` or
        {file}`/dev/mapper/root`, mounted `ro`. The root hash gets into the unified kernel image, so set
        {option}`sane.image.uki.enable`, too.
      '';
    };
  };
}
