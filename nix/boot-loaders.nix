# What of the host's boot loaders the image holds. It is NOT a NixOS module: module.nix asks it.
#
# Options that a nixpkgs may lack, being older or newer, are read with `or`.
{
  config,
  lib,
  pkgs,
}:
let
  inherit (config.boot) loader;
  image = config.sane.image;
  host = loader.systemd-boot;
  inherit (config.hardware) deviceTree;

  isInstallable =
    image.systemdBoot
    || image.populateCmd != null
    || image.platformPartSize != null
    || image.extraBootFiles != [ ]
    || image.installBootloader != null;

  extraEntries = lib.mapAttrs' (
    name: text: lib.nameValuePair "loader/entries/${name}" (pkgs.writeText name text)
  ) host.extraEntries;
in
{
  # What sane-image is told of systemd-boot: what the host's own installer would do.
  systemdBoot =
    if image.systemdBoot then
      {
        efiStub = "${config.systemd.package}/lib/systemd/boot/efi";
        inherit (loader) timeout;
        inherit (host) consoleMode editor;
        deviceTree =
          if host.installDeviceTree or false && deviceTree.name != null then
            "${deviceTree.package}/${deviceTree.name}"
          else
            null;
        distroName = config.system.nixos.distroName or "NixOS";
        bootCountingTries = if host.bootCounting.enable or false then host.bootCounting.tries else null;
        rebootForBitlocker = host.rebootForBitlocker or false;
        extraFiles = lib.mapAttrs (_: file: "${file}") (host.extraFiles // extraEntries);
      }
    else
      null;

  # What keeps a host from having an image.
  errors =
    lib.optional (image.systemdBoot && host.xbootldrMountPoint or null != null) (
      ''boot.loader.systemd-boot.xbootldrMountPoint is "${host.xbootldrMountPoint}", but an image's only ''
      + "boot partition is its ESP; set it to null, or sane.image.systemdBoot to false"
    )
    ++ lib.optional (image.systemdBoot && loader.efi.efiSysMountPoint != "/boot") (
      ''boot.loader.efi.efiSysMountPoint is "${loader.efi.efiSysMountPoint}", but an image has its ESP ''
      + ''at /boot; set it to "/boot", or sane.image.systemdBoot to false''
    );

  # What makes an image that may not boot, or not as one might think.
  warnings =
    lib.optional (!isInstallable) (
      (
        if loader.grub.enable then
          "the image cannot hold GRUB, whose installer runs on the machine itself, and no other boot loader "
          + "is enabled"
        else
          "the image holds nothing that could boot it"
      )
      + "; set boot.loader.systemd-boot.enable for UEFI or boot.loader.generic-extlinux-compatible.enable "
      + "for U-Boot (and boot.loader.grub.enable to false), or sane.image.systemdBoot, populateCmd, "
      + "extraBootFiles or installBootloader"
    )
    ++ lib.optional (image.systemdBoot && host.extraInstallCommands or "" != "") (
      "boot.loader.systemd-boot.extraInstallCommands do not run for the image, only on the machine; set "
      + "sane.image.extraBootFiles to what the first boot needs of them"
    );
}
