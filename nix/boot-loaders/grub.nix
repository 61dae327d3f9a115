# What sane-image is told of GRUB: what nixpkgs' grub.nix tells install-grub.pl on the machine, and the two
# directories of modules that it would install from. It is NOT a NixOS module: default.nix calls it.
#
# Options that an older or newer nixpkgs may lack are read with `or`.
{
  config,
  lib,
  pkgs,
}:
let
  inherit (config.boot) loader;
  cfg = loader.grub;
  image = config.sane.image;
  distroName = config.system.nixos.distroName or "NixOS";
  option = name: "boot.loader.grub.${name}";
  textOf = value: if value == null then "" else "${value}";
  # A path of the configuration becomes one of the store.
  pathOf = value: if value == null then null else "${value}";

  ### Packages, by the same expressions as on the machine, so that they are the same ones

  grubPkgs = if cfg.forcei686 or false then pkgs.pkgsi686Linux else pkgs;
  grub =
    if cfg.zfsSupport or false then
      grubPkgs.grub2.override (
        { zfsSupport = true; } // lib.optionalAttrs (cfg ? zfsPackage) { zfs = cfg.zfsPackage; }
      )
    else
      grubPkgs.grub2;
  grubEfi = grub.override { efiSupport = true; };
  modulesOf = package: "${package}/lib/grub/${package.grubTarget}";
  # PCs alone have a target besides EFI.
  hasBiosTarget = grub.grubTarget or "" != "";

  # It runs on the machine that builds, and writes for any other.
  inherit (pkgs) buildPackages;
  tools =
    if buildPackages.stdenv.hostPlatform.isx86 then buildPackages.grub2 else buildPackages.grub2_efi;

  convertedFont = pkgs.runCommand "grub-font-converted.pf2" { } (
    builtins.concatStringsSep " " (
      [
        "${grub}/bin/grub-mkfont"
        cfg.font
        "--output"
        "$out"
      ]
      ++ lib.optional (cfg.fontSize or null != null) "--size ${toString cfg.fontSize}"
    )
  );

  ### Where it is installed

  # As grub.nix makes it of `devices`, also for an image whose host has another boot loader.
  devices = cfg.devices ++ lib.optional (cfg.devices == [ ] && cfg.device != "") cfg.device;
  entries =
    cfg.mirroredBoots
    ++ lib.optional (cfg.mirroredBoots == [ ] && devices != [ ]) {
      path = "/boot";
      inherit devices;
      inherit (loader.efi) efiSysMountPoint;
      efiBootloaderId = null;
    };
  entry =
    if entries == [ ] then
      {
        path = "/boot";
        devices = [ ];
        efiSysMountPoint = null;
        efiBootloaderId = null;
      }
    else
      lib.head entries;
  efiSysMountPoint = if entry.efiSysMountPoint == null then entry.path else entry.efiSysMountPoint;

  isForBios = hasBiosTarget && lib.any (device: device != "nodev") entry.devices;
  isForEfi = cfg.efiSupport;

  ### Users

  withoutFiles =
    user:
    if user.hashedPassword != null then
      { inherit (user) hashedPassword; }
    else
      { inherit (user) password; };
  mistakesOfUser =
    name:
    let
      user = cfg.users.${name};
      this = field: ''${option "users"}."${name}".${field}'';
      ofFile =
        file: field:
        lib.optional (user.${file} != null) (
          ''${this file} is "${user.${file}}", a file of the machine, which an image cannot read; set ''
          + "${this field} instead, or sane.image.grub to false"
        );
    in
    ofFile "hashedPasswordFile" "hashedPassword"
    ++ ofFile "passwordFile" "password"
    ++ lib.optional (user.hashedPassword != null && !lib.hasPrefix "grub.pbkdf2." user.hashedPassword) (
      "${this "hashedPassword"} is no hash for GRUB; set it to what grub-mkpasswd-pbkdf2 prints, from "
      + ''"grub.pbkdf2." on''
    )
    ++ lib.optional (lib.all (value: value == null) (lib.attrValues user)) (
      ''${option "users"}."${name}" has no password; set ${this "hashedPassword"}''
    );

  ### What an image has no use for, or cannot have

  outside =
    lib.concatMap
      (
        named:
        lib.optional
          (builtins.isString named.value && !lib.hasPrefix "${builtins.storeDir}/" named.value)
          (
            ''${option named.name} is "${named.value}", which is not in the store, so that an image cannot ''
            + "have it; set it to a path of your configuration, such as ./${baseNameOf named.value}"
          )
      )
      (
        map (name: lib.nameValuePair name (cfg.${name} or null)) [
          "font"
          "splashImage"
          "theme"
        ]
        ++ map (name: lib.nameValuePair ''extraFiles."${name}"'' cfg.extraFiles.${name}) (
          lib.attrNames cfg.extraFiles
        )
      );

  unknownArgs = lib.filter (arg: !lib.hasPrefix "--modules=" arg) cfg.extraGrubInstallArgs;

  # The lines of extraPrepareConfig that grub.nix does not make of extraFiles.
  ownPreparation =
    let
      copies = map (
        name:
        " ${lib.escapeShellArg cfg.extraFiles.${name}} "
        + "${lib.escapeShellArg efiSysMountPoint}/${lib.escapeShellArg name}"
      ) (lib.attrNames cfg.extraFiles);
    in
    lib.filter (
      line:
      builtins.match "[[:space:]]*" line == null && !lib.any (copy: lib.hasSuffix copy line) copies
    ) (lib.splitString "\n" cfg.extraPrepareConfig);

  onlyThere = "for the image, only on the machine";
in
{
  inherit efiSysMountPoint isForEfi;

  spec = {
    mkimage = "${tools}/bin/grub-mkimage";
    bios = if isForBios then modulesOf grub else null;
    efi = if isForEfi then modulesOf grubEfi else null;
    inherit efiSysMountPoint;
    inherit (cfg) efiInstallAsRemovable;
    bootloaderId =
      if entry.efiBootloaderId == null then
        distroName + builtins.replaceStrings [ "/" ] [ "-" ] efiSysMountPoint
      else
        entry.efiBootloaderId;

    # By these, the machine knows whether it has to install anew.
    fullName = lib.getName grub;
    fullVersion = lib.getVersion grub;
    grub = if cfg.devices == [ "nodev" ] || !hasBiosTarget then "" else "${grub}";
    grubEfi = if isForEfi then "${grubEfi}" else "";
    inherit (entry) devices;
    inherit (cfg) extraGrubInstallArgs;

    inherit distroName;
    inherit (loader) timeout;
    timeoutStyle = cfg.timeoutStyle or "menu";
    default = toString cfg.default;
    inherit (cfg)
      configurationLimit
      copyKernels
      extraConfig
      extraEntries
      extraEntriesBeforeNixOS
      extraPerEntryConfig
      fsIdentifier
      gfxmodeBios
      gfxmodeEfi
      gfxpayloadBios
      gfxpayloadEfi
      splashMode
      storePath
      ;
    entryOptions = textOf cfg.entryOptions;
    subEntryOptions = textOf cfg.subEntryOptions;
    font =
      if cfg.font == null || lib.hasSuffix ".pf2" "${cfg.font}" then
        pathOf cfg.font
      else
        "${convertedFont}";
    splashImage = pathOf cfg.splashImage;
    inherit (cfg) backgroundColor;
    theme = pathOf cfg.theme;
    users = lib.mapAttrs (_: withoutFiles) cfg.users;
    extraFiles = lib.mapAttrs (_: file: "${file}") cfg.extraFiles;
  };

  errors =
    lib.optional (entries == [ ]) (
      ''${option "device"} is not set; set it to the machine's disk, such as "/dev/sda", for a BIOS, or to ''
      + ''"nodev" and ${option "efiSupport"} to true for UEFI; if the host has another boot loader, set ''
      + "${option "enable"} to false"
    )
    ++ lib.optional (lib.length entries > 1) (
      "${option "mirroredBoots"} has ${toString (lib.length entries)} entries, but an image is one disk with "
      + "one /boot; leave one of them"
    )
    ++ lib.optional (lib.length entries == 1 && entry.path != "/boot") (
      ''${option "mirroredBoots"} has the path "${entry.path}", but an image has GRUB's files at /boot; set ''
      + ''it to "/boot"''
    )
    ++ lib.optional (cfg.enableCryptodisk or false) (
      "${option "enableCryptodisk"} is true, but an image has nothing encrypted; set it to false"
    )
    ++ map (
      arg:
      ''${option "extraGrubInstallArgs"} has "${arg}", but an image knows "--modules=…" alone; remove it, or ''
      + "set sane.image.grub to false"
    ) unknownArgs
    ++ lib.optional (isForBios && image.sectorSize == 4096) (
      "sane.image.sectorSize is 4096, but a BIOS cannot boot from disks with 4096-byte sectors; set it to 512, "
      + ''or ${option "device"} to "nodev" and ${option "efiSupport"} to true for UEFI alone''
    )
    ++ lib.optional (isForEfi && image.systemdBoot) (
      "sane.image.systemdBoot and sane.image.grub are both true, but firmware starts one of them; remove "
      + "sane.image.systemdBoot, since an image can have GRUB, or set sane.image.grub to false"
    )
    ++ lib.concatMap mistakesOfUser (lib.attrNames cfg.users)
    ++ outside;

  warnings =
    lib.optional (entries != [ ] && !isForBios && !isForEfi) (
      "nothing in the image starts GRUB, only its menu is there (boot.loader.grub.device); for UEFI, set "
      + "${option "efiSupport"} to true"
      + lib.optionalString hasBiosTarget '', for a BIOS, set ${option "device"} to the machine's disk''
    )
    ++
      lib.optional
        (isForEfi && !cfg.efiInstallAsRemovable && !(loader.efi.canTouchEfiVariables or false))
        (
          "firmware starts the image's GRUB by EFI/BOOT, which the machine never renews, since "
          + "${option "efiInstallAsRemovable"} is false; set it to true, or "
          + "boot.loader.efi.canTouchEfiVariables, by which the machine gets a boot entry of its own"
        )
    ++ lib.optional (cfg.useOSProber or false) (
      "${option "useOSProber"} does not look for other systems ${onlyThere}, whose menu has them after its "
      + "first nixos-rebuild"
    )
    ++ lib.optional (cfg.extraInstallCommands or "" != "") (
      "${option "extraInstallCommands"} do not run ${onlyThere}; set sane.image.files to what the first boot "
      + "needs of them"
    )
    ++ lib.optional (ownPreparation != [ ]) (
      "${option "extraPrepareConfig"} does not run ${onlyThere}; set ${option "extraFiles"} or "
      + "sane.image.files to what the first boot needs of it"
    );
}
