# Decides which of the host's boot loaders the image has. It is NOT a NixOS module: module.nix calls it.
#
# Options that an older or newer nixpkgs may lack are read with `or`.
{
  config,
  fileSystems,
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

  # Boot loaders of the host that an image cannot have, and whether they run on UEFI.
  others = lib.filter (other: other.enable) [
    {
      option = "boot.lanzaboote.enable";
      name = "Lanzaboote";
      enable = config.boot.lanzaboote.enable or false;
      isUefi = true;
    }
    {
      option = "boot.loader.limine.enable";
      name = "Limine";
      enable = loader.limine.enable or false;
      isUefi = loader.limine.efiSupport or false;
    }
    {
      option = "boot.loader.refind.enable";
      name = "rEFInd";
      enable = loader.refind.enable or false;
      isUefi = true;
    }
    {
      option = "boot.loader.external.enable";
      name = "its boot loader";
      enable = loader.external.enable or false;
      isUefi = loader.efi.canTouchEfiVariables or false;
    }
    {
      option = "boot.loader.grub.enable";
      name = "GRUB";
      enable = loader.grub.enable;
      isUefi = loader.grub.efiSupport or false;
    }
  ];
  other = lib.head others;

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
    ++ lib.optional (image.systemdBoot && loader.efi.efiSysMountPoint != "/boot" && !fileSystems.movesEsp) (
      ''boot.loader.efi.efiSysMountPoint is "${loader.efi.efiSysMountPoint}", but an image has its ESP ''
      + ''at /boot; set it to "/boot", or sane.image.systemdBoot to false''
    );

  # Why nothing would boot the image, if so. A boot loader may come from elsewhere, so that is no error.
  unserved = lib.optional (!isInstallable) (
    if others == [ ] then
      "the image has no boot loader; set boot.loader.systemd-boot.enable for UEFI or "
      + "boot.loader.generic-extlinux-compatible.enable for U-Boot, or sane.image.systemdBoot, populateCmd, "
      + "extraBootFiles or installBootloader"
    else
      "${other.option} is true, but an image cannot hold ${other.name}, whose installer runs on the machine "
      + "itself; "
      + (
        if other.isUefi then
          "set sane.image.systemdBoot to true, and systemd-boot starts the machine until its first "
          + "nixos-rebuild installs ${other.name}"
        else
          "in its place, set boot.loader.systemd-boot.enable for UEFI, "
          + "boot.loader.generic-extlinux-compatible.enable for U-Boot or sane.image.populateCmd for others; "
          + "a PC without UEFI cannot boot an image"
      )
  );

  # Settings with which the image does not boot as one might expect.
  warnings = lib.optional (image.systemdBoot && host.extraInstallCommands or "" != "") (
    "boot.loader.systemd-boot.extraInstallCommands do not run for the image, only on the machine; set "
    + "sane.image.extraBootFiles to what the first boot needs of them"
  );
}
