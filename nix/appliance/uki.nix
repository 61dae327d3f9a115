# A unified kernel image: kernel, initrd and command line in one file, which systemd-boot finds in EFI/Linux. It is NOT
# a NixOS module: default.nix calls it.
#
# The parts are those that the host's own `boot.uki` has. sane-image puts them together, since it alone knows the root
# hash of the store when it is made.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) literalExpression mkOption types;
  inherit (config.hardware) deviceTree;
  inherit (pkgs.stdenv.hostPlatform) efiArch;

  cfg = config.sane.image;
  own = cfg.uki;
  inherit (config.boot.kernelPackages) kernel;
  files = config.system.boot.loader;
  others = lib.filter (loader: cfg.${loader}) [
    "grub"
    "limine"
  ];

  # Without these, a kernel that dies stands still, and an initrd that gives up waits at the console.
  has = start: lib.any (lib.hasPrefix start) config.boot.kernelParams;
  reboots =
    lib.optional (!has "panic=") "panic=10"
    ++ lib.optional (!has "boot.panic_on_fail") "boot.panic_on_fail";
in
{
  errors = lib.optionals own.enable (
    map (
      loader:
      "sane.image.uki.enable and sane.image.${loader} are both true, but that boot loader does not find a unified kernel "
      + "image; set boot.loader.systemd-boot.enable to true, and sane.image.${loader} to false"
    ) others
    ++ lib.optional (config.boot.initrd.secrets or { } != { }) (
      "sane.image.uki.enable is true, but boot.initrd.secrets are on the machine only, and nothing can be added to a "
      + "unified kernel image there; remove them"
    )
    ++ lib.optional (own.tries != null && !cfg.systemdBoot) (
      "sane.image.uki.tries is ${toString own.tries}, but systemd-boot alone counts them; set "
      + "boot.loader.systemd-boot.enable to true, or sane.image.uki.tries to null"
    )
  );

  warnings = lib.optional (own.enable && own.tries != null && reboots != [ ]) (
    "sane.image.uki.tries is ${toString own.tries}, but a version that does not come up waits for somebody instead of "
    + "starting again, so that its tries never run out; add "
    + lib.concatMapStringsSep " and " (param: ''"${param}"'') reboots
    + " to boot.kernelParams"
  );

  spec = lib.optionalAttrs own.enable {
    uki = {
      stub = "${config.systemd.package}/lib/systemd/boot/efi/linux${efiArch}.efi.stub";
      kernel = "${kernel}/${files.kernelFile}";
      initrd = "${config.system.build.initialRamdisk}/${files.initrdFile}";
      cmdline = lib.concatStringsSep " " (
        [ "init=${config.system.build.toplevel}/init" ] ++ config.boot.kernelParams
      );
      osRelease = "${config.environment.etc."os-release".source}";
      uname = kernel.modDirVersion;
      deviceTree =
        if deviceTree.enable or false && deviceTree.name != null then
          "${deviceTree.package}/${deviceTree.name}"
        else
          null;
      fileName = "${own.name}${lib.optionalString (own.version != null) "_${own.version}"}.efi";
      inherit (own) tries;
    };
  };

  options.uki = {
    enable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the image boots by a unified kernel image: one file, {file}`EFI/Linux/<name>_<version>.efi`, that holds
        the kernel, the initrd and the command line. With {option}`boot.loader.systemd-boot.enable`, systemd-boot
        starts it, and has no other entry of the system. Without it, the file is what firmware starts,
        {file}`EFI/BOOT/BOOTX64.EFI`.
      '';
    };

    name = mkOption {
      type = types.strMatching "[0-9a-zA-Z._-]+";
      default = if config.system.image.id or null != null then config.system.image.id else "nixos";
      defaultText = literalExpression ''
        if config.system.image.id != null then config.system.image.id else "nixos"
      '';
      example = "kiosk";
      description = "The name of the unified kernel image's file.";
    };

    version = mkOption {
      type = types.nullOr (types.strMatching "[0-9a-zA-Z.~^-]+");
      default = config.system.image.version or null;
      defaultText = literalExpression "config.system.image.version";
      example = "1";
      description = ''
        The version in the name of that file; null for none. Of several files, systemd-boot starts the one of the
        highest version.
      '';
    };

    tries = mkOption {
      type = types.nullOr (types.ints.between 1 255);
      default = null;
      example = 3;
      description = ''
        How often systemd-boot tries to start a new version before it takes the one before it; null for always. A boot
        counts as good when it reaches {file}`boot-complete.target`.
      '';
    };
  };
}
