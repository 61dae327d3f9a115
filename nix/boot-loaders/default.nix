# Decides which of the host's boot loaders the image has. It is NOT a NixOS module: module.nix calls it.
#
# Options that an older or newer nixpkgs may lack are read with `or`.
{
  config,
  lib,
  pkgs,
}:
let
  inherit (config.boot) loader;
  image = config.sane.image;

  systemdBoot = import ./systemd-boot.nix { inherit config lib pkgs; };
  grub = import ./grub.nix { inherit config lib pkgs; };
  limine = import ./limine.nix { inherit config lib pkgs; };
  # Those that the image has.
  own =
    lib.optional image.systemdBoot systemdBoot
    ++ lib.optional image.grub grub
    ++ lib.optional image.limine limine;

  isInstallable =
    own != [ ]
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
  ];
  other = lib.head others;
  choices =
    "boot.loader.systemd-boot.enable for UEFI, boot.loader.grub.enable or "
    + "boot.loader.limine.enable for UEFI or a BIOS, "
    + "boot.loader.generic-extlinux-compatible.enable for U-Boot";
in
{
  systemdBoot = if image.systemdBoot then systemdBoot.spec else null;
  grub = if image.grub then grub.spec else null;
  limine = if image.limine then limine.spec else null;

  # Whether the image starts by UEFI, and where the ESP is mounted for that.
  needsEsp = image.systemdBoot || image.grub && grub.isForEfi || image.limine || image.uki.enable;
  efiSysMountPoint =
    if image.grub && !image.systemdBoot then
      grub.efiSysMountPoint
    else if image.limine then
      limine.efiSysMountPoint
    else
      systemdBoot.efiSysMountPoint;
  xbootldrMountPoint = if image.systemdBoot then systemdBoot.xbootldrMountPoint else null;
  # Whether anything of the image is in /boot wherever the ESP is.
  fillsBoot = image.grub || image.populateCmd != null || image.extraBootFiles != [ ];

  # What keeps a host from having an image.
  errors = lib.concatMap (loader: loader.errors) own;

  # Why nothing would boot the image, if so. A boot loader may come from elsewhere, so that is no error.
  unserved = lib.optional (!isInstallable) (
    if others == [ ] then
      "the image has no boot loader; set ${choices}, or sane.image.systemdBoot, grub, limine, populateCmd, "
      + "extraBootFiles or installBootloader"
    else
      "${other.option} is true, but an image cannot hold ${other.name}, whose installer runs on the machine "
      + "itself; "
      + (
        if other.isUefi then
          "set sane.image.systemdBoot to true, and systemd-boot starts the machine until its first "
          + "nixos-rebuild installs ${other.name}"
        else
          "in its place, set ${choices} or sane.image.populateCmd for others"
      )
  );

  # Settings with which the image does not boot as one might expect.
  warnings = lib.concatMap (loader: loader.warnings) own;
}
