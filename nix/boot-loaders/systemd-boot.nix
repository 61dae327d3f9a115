# What sane-image is told of systemd-boot: what the host's own installer would do. It is NOT a NixOS module:
# default.nix calls it.
#
# Options that an older or newer nixpkgs may lack are read with `or`.
{
  config,
  lib,
  pkgs,
}:
let
  inherit (config.boot) loader;
  inherit (config.hardware) deviceTree;
  host = loader.systemd-boot;

  extraEntries = lib.mapAttrs' (
    name: text: lib.nameValuePair "loader/entries/${name}" (pkgs.writeText name text)
  ) host.extraEntries;
in
{
  spec = {
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
  };

  # Where the host mounts the ESP.
  inherit (loader.efi) efiSysMountPoint;

  # Where the host mounts the partition that has kernels in the place of the ESP; null for none.
  xbootldrMountPoint = host.xbootldrMountPoint or null;

  errors = [ ];

  warnings = lib.optional (host.extraInstallCommands or "" != "") (
    "boot.loader.systemd-boot.extraInstallCommands do not run for the image, only on the machine; set "
    + "sane.image.extraBootFiles to what the first boot needs of them"
  );
}
