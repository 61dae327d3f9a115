# What sane-image is told of Limine: what nixpkgs' limine.nix tells limine-install.py on the machine, and the package
# that it would install from. It is NOT a NixOS module: default.nix calls it.
#
# Options that an older or newer nixpkgs may lack are read with `or`.
{
  config,
  lib,
  pkgs,
}:
let
  inherit (config.boot) loader;
  inherit (pkgs.stdenv) hostPlatform;
  cfg = loader.limine;
  image = config.sane.image;
  option = name: "boot.loader.limine.${name}";
  inherit (cfg.style) graphicalTerminal interface;

  # It runs on the machine that builds. The host's own is of the right version for certain.
  tools =
    if (pkgs.stdenv.buildPlatform.canExecute or (_: true)) hostPlatform then
      cfg.package
    else
      pkgs.buildPackages.limine;
in
{
  # limine-install.py looks nowhere else.
  efiSysMountPoint = if cfg.efiSupport then loader.efi.efiSysMountPoint else "/boot";
  isForEfi = cfg.efiSupport;

  spec = {
    package = "${cfg.package}";
    tool = "${tools}/bin/limine";
    inherit (loader) timeout;
    inherit (cfg)
      biosSupport
      efiInstallAsRemovable
      efiSupport
      enableEditor
      enrollConfig
      extraConfig
      extraEntries
      panicOnChecksumMismatch
      validateChecksums
      ;
    resolution = cfg.resolution or null;
    additionalFiles = lib.mapAttrs (_: file: "${file}") cfg.additionalFiles;
    distroName = config.system.nixos.distroName or "NixOS";
    style = {
      wallpapers = map (file: "${file}") cfg.style.wallpapers;
      inherit (cfg.style) backdrop wallpaperStyle;
      interfaceResolution = interface.resolution;
      interfaceBranding = interface.branding;
      interfaceBrandingColor = interface.brandingColor;
      interfaceHelpColor = interface.helpColor or null;
      interfaceHelpColorBright = interface.helpColorBright or null;
      interfaceHelpHidden = interface.helpHidden;
      fontScale = graphicalTerminal.font.scale;
      fontSpacing = graphicalTerminal.font.spacing;
      inherit (graphicalTerminal)
        background
        brightBackground
        brightForeground
        brightPalette
        foreground
        margin
        marginGradient
        palette
        ;
    };
  };

  errors =
    lib.optional (cfg.secureBoot.enable or false) (
      "${option "secureBoot.enable"} is true, but an image has no keys, which are the machine's own; set it to "
      + "false until the machine has some"
    )
    ++ lib.optional (cfg.biosSupport && image.sectorSize == 4096) (
      "sane.image.sectorSize is 4096, but a BIOS cannot boot from disks with 4096-byte sectors; set it to 512, "
      + "or ${option "biosSupport"} to false"
    )
    ++ lib.optional (cfg.efiSupport && image.systemdBoot) (
      "sane.image.systemdBoot and sane.image.limine are both true, but firmware starts one of them; remove "
      + "sane.image.systemdBoot, since an image can have Limine, or set sane.image.limine to false"
    )
    ++ lib.optional image.grub (
      "sane.image.grub and sane.image.limine are both true, but one of them starts the machine; set one of them "
      + "to false"
    );

  warnings =
    lib.optional (cfg.biosSupport && cfg.biosDevice == "nodev") (
      "a BIOS starts the image's Limine, but the machine never renews its boot code, since "
      + "${option "biosDevice"} is \"nodev\"; set it to the machine's disk, and ${option "partitionIndex"} to the "
      + "number of the BIOS boot partition"
    )
    ++ lib.optional (cfg.biosSupport && cfg.biosDevice != "nodev" && cfg.partitionIndex == null) (
      "${option "partitionIndex"} is not set, so that the machine puts Limine's second stage into its partition "
      + "table; set it to the number of the BIOS boot partition, which is 1 if nothing is put before it"
    )
    ++ lib.optional (cfg.extraInstallCommands or "" != "") (
      "${option "extraInstallCommands"} do not run for the image, only on the machine; set sane.image.files to "
      + "what the first boot needs of them"
    );
}
