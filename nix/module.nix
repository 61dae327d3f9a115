# `sane.image.*`: the options of a disk image, `system.build.img`, and what the system does when it is
# booted from one for the first time.
#
# On a host that never asks for its image, this adds only a unit with a condition. Mistakes in the host's
# filesystems are errors of the image only.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) literalExpression mkOption types;

  cfg = config.sane.image;
  extlinux = config.boot.loader.generic-extlinux-compatible;
  MiB = 1024 * 1024;
  bootLoaders = import ./boot-loaders { inherit config lib pkgs; };
  fileSystems = import ./file-systems.nix { inherit bootLoaders config lib; };
  appliance = import ./appliance {
    inherit
      config
      fileSystems
      lib
      pkgs
      ;
  };
  absentDevices = import ./absent-devices.nix {
    inherit
      config
      fileSystems
      lib
      partitions
      ;
  };
  firstBoot = import ./first-boot {
    inherit
      config
      fileSystems
      lib
      pkgs
      ;
  };
  output = import ./output.nix { inherit config lib; };
  ownFiles = import ./own-files.nix { inherit config lib; };
  partitions = import ./partitions.nix { inherit config fileSystems lib; };

  inherit (fileSystems) nixFs;

  # What sane-image would refuse, but only after the whole system is built. First comes what an image cannot
  # have at all.
  errors =
    if isNoMachine then
      [
        (
          (
            if config.boot.isContainer or false then
              "boot.isContainer is true, and a container has no disk"
            else
              "boot.kernel.enable is false, and nothing boots without a kernel"
          )
          + "; set sane.image.enable to false"
        )
      ]
    else
      lib.optionals (mistakes != [ ]) bootLoaders.unserved ++ mistakes;
  # A container, or a system under another kernel such as WSL.
  isNoMachine = config.boot.isContainer or false || !(config.boot.kernel.enable or true);
  mistakes = lib.concatMap (part: part.errors) [
    fileSystems
    appliance
    bootLoaders
    partitions
    ownFiles
    output
  ];

  # These are printed with the errors, so that the next evaluation has nothing new.
  warnings =
    if isNoMachine then
      [ ]
    else
      lib.optionals (mistakes == [ ]) bootLoaders.unserved
      ++ bootLoaders.warnings
      ++ absentDevices.warnings
      ++ appliance.warnings
      ++ lib.optional (firstBoot.registers && lib.elem "ro" nixFs.options) (
        ''fileSystems."${nixFs.mountPoint}".options has "ro", so the first boot may not be able to tell ''
        + ''Nix of the store; remove "ro", or set sane.image.registerNixPaths to false''
      );

  img = import ./image.nix (
    appliance.spec
    // {
      inherit pkgs;
      inherit (config) fileSystems;
      inherit (config.system.build) toplevel;
      inherit (bootLoaders) grub limine systemdBoot;
      inherit (fileSystems) efiSysMountPoint xbootldrMountPoint;
      inherit (ownFiles) files;
      inherit (partitions) extraPartitions;
      inherit (cfg)
        blockMap
        bootPartSize
        compressionLevel
        diskSize
        espSize
        extraBootFiles
        extraBuildFlags
        extraGPTPadding
        firstPartGap
        format
        hybridMbr
        installBootloader
        name
        nixFreeSpace
        package
        populateCmd
        sectorSize
        storeContents
        verify
        ;
      extraDirectories = lib.unique (cfg.extraDirectories ++ appliance.extraDirectories);
    }
  );
in
{
  options.sane.image = output.options // partitions.options // appliance.options // {
    enable = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether this host has an image at {option}`system.build.img`, and the services of its first boot. The
        image is neither evaluated nor built until something asks for it.
      '';
    };

    name = mkOption {
      type = types.strMatching "[0-9a-zA-Z+_?=-][0-9a-zA-Z+._?=-]*";
      default = "nixos";
      example = literalExpression "config.networking.hostName";
      description = "The file name of the image without its `.img`, or what {option}`sane.image.format` makes of that.";
    };

    package = mkOption {
      type = types.package;
      default = pkgs.buildPackages.callPackage ./package.nix { };
      defaultText = literalExpression "pkgs.buildPackages.callPackage ./package.nix { }";
      example = literalExpression "inputs.sane-image.packages.x86_64-linux.default";
      description = ''
        The program that makes the image. It runs on the machine that builds, so when the host is
        cross-built, it is a package of the build platform.
      '';
    };

    storeContents = mkOption {
      type = types.listOf types.package;
      default = [ config.system.build.toplevel ];
      defaultText = literalExpression "[ config.system.build.toplevel ]";
      example = literalExpression "[ config.system.build.toplevel pkgs.linuxPackages.kernel.dev ]";
      description = ''
        The store paths in the image: these and everything that they refer to. The system itself must be one
        of them, so repeat it when you add others.
      '';
    };

    populateCmd = mkOption {
      type = types.nullOr types.str;
      default = if extlinux.enable then extlinux.populateCmd else null;
      defaultText = literalExpression ''
        if config.boot.loader.generic-extlinux-compatible.enable then
          config.boot.loader.generic-extlinux-compatible.populateCmd
        else
          null
      '';
      example = literalExpression ''
        "''${pkgs.buildPackages.my-boot-files}/bin/populate --timeout 5"
      '';
      description = ''
        A shell command that fills {file}`/boot`, called with `-c <toplevel> -d <directory>`; null for
        none. It runs on the machine that builds.
      '';
    };

    systemdBoot = mkOption {
      type = types.bool;
      default = config.boot.loader.systemd-boot.enable;
      defaultText = literalExpression "config.boot.loader.systemd-boot.enable";
      example = true;
      description = ''
        Whether the ESP holds systemd-boot and its entries for this system. The options in
        {option}`boot.loader.systemd-boot` and {option}`boot.loader.timeout` apply. The files are the ones
        that {command}`nixos-rebuild` writes on the machine, so it goes on from there.
      '';
    };

    grub = mkOption {
      type = types.bool;
      default = config.boot.loader.grub.enable;
      defaultText = literalExpression "config.boot.loader.grub.enable";
      example = false;
      description = ''
        Whether the image boots by GRUB, with its menu for this system in {file}`/boot/grub`. The options in
        {option}`boot.loader.grub` and {option}`boot.loader.timeout` apply: for a BIOS if {option}`device` is
        not `"nodev"`, for UEFI if {option}`efiSupport` is set, or for both. The files are the ones that
        {command}`nixos-rebuild` writes on the machine, so it goes on from there.
      '';
    };

    limine = mkOption {
      type = types.bool;
      default = config.boot.loader.limine.enable or false;
      defaultText = literalExpression "config.boot.loader.limine.enable";
      example = false;
      description = ''
        Whether the image boots by Limine, with its menu for this system in {file}`limine` on the ESP. The options
        in {option}`boot.loader.limine` and {option}`boot.loader.timeout` apply: for a BIOS if
        {option}`biosSupport` is set, for UEFI if {option}`efiSupport` is set, or for both. The files are the ones
        that {command}`nixos-rebuild` writes on the machine, so it goes on from there.
      '';
    };

    extraBootFiles = mkOption {
      type = types.listOf types.path;
      default = [ ];
      example = literalExpression "[ pkgs.raspberrypi-armstubs ]";
      description = ''
        Packages or directories whose contents are added to {file}`/boot`, beside the files of
        {option}`sane.image.populateCmd` and of the boot loader. Links are followed, since FAT has none. Two
        different files with one name are an error.
      '';
    };

    extraDirectories = mkOption {
      type = types.listOf (types.strMatching "/.+");
      default = [ ];
      example = [ "/var/log" ];
      description = ''
        Empty directories to make on the filesystem that holds the store, as absolute paths of the running
        system. They are for what the system cannot make itself in time, such as the mount points of a
        read-only root.
      '';
    };

    files = mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            source = mkOption {
              type = types.nullOr types.path;
              default = null;
              description = ''
                The file, or a directory that is copied with everything in it. It goes through the Nix store,
                which everybody can read. For secrets, see {command}`sane-image build --extra-files`.
              '';
            };
            text = mkOption {
              type = types.nullOr types.str;
              default = null;
              description = ''
                The contents of the file.
              '';
            };
            symlink = mkOption {
              type = types.nullOr types.str;
              default = null;
              description = ''
                The target of the symbolic link.
              '';
            };
            directory = mkOption {
              type = types.bool;
              default = false;
              description = ''
                Whether to make a directory.
              '';
            };
            mode = mkOption {
              type = types.nullOr (types.strMatching "[0-7]{3,4}");
              default = null;
              example = "0600";
              description = ''
                The permissions; null means 0755 for directories and executable files, 0644 for others. If
                {option}`source` is a directory, its files get this mode, and its directories can be entered
                by everybody who may read them. FAT has no permissions.
              '';
            };
            user = mkOption {
              type = types.either types.ints.unsigned types.str;
              default = 0;
              description = ''
                The owner: a number, or a user whose number {option}`users.users` sets.
              '';
            };
            group = mkOption {
              type = types.either types.ints.unsigned types.str;
              default = 0;
              description = ''
                The group: a number, or a group whose number {option}`users.groups` sets.
              '';
            };
          };
        }
      );
      default = { };
      example = literalExpression ''
        {
          "/boot/config.txt".text = "dtparam=audio=on\n";
          "/var/lib/app" = { directory = true; mode = "0700"; user = "app"; group = "app"; };
        }
      '';
      description = ''
        The host's own files in the image, each under the absolute path that it has in the running system,
        with one of `source`, `text`, `symlink` and `directory`. The path must be on one of the image's
        filesystems, as {option}`fileSystems` says. Missing parent directories are made; they belong to root
        and have mode 0755. On {file}`/boot`, these files replace others of the same name.
      '';
    };

    extraGPTPadding = mkOption {
      type = types.ints.unsigned;
      default = 0;
      example = literalExpression "16 * 1024 * 1024 - 1024";
      description = ''
        Bytes between the header of the partition table and its entries, for boards whose firmware is where
        the entries usually are, such as Allwinner's at 8 KiB. sane-image never writes there,
        {option}`sane.image.installBootloader` may. Must be a whole number of sectors.
      '';
    };

    firstPartGap = mkOption {
      type = types.nullOr types.ints.unsigned;
      default =
        let
          # The protective MBR, the header, and entries of 16 KiB.
          table = 2 * cfg.sectorSize + 16 * 1024;
        in
        lib.max 0 (16 * MiB - table - cfg.extraGPTPadding);
      defaultText = lib.literalMD "so that the first partition starts at 16 MiB, if it can";
      example = null;
      description = ''
        Bytes that stay free between the partition table and the first partition; null for none. sane-image
        never writes there: it is the place for boot loaders such as U-Boot. Partitions start at whole MiB in
        any case.
      '';
    };

    bootPartSize = mkOption {
      type = types.ints.positive;
      default = 512 * MiB;
      defaultText = literalExpression "512 * 1024 * 1024";
      example = literalExpression "1024 * 1024 * 1024";
      description = ''
        The size of the ESP in bytes: of {file}`/boot`, or of what {option}`boot.loader.efi.efiSysMountPoint`
        names. It cannot grow later. At {file}`/boot`, and with systemd-boot in any place, it holds a kernel
        and an initrd for each generation that the boot loader offers. Without an ESP, it has no meaning. With
        {option}`boot.loader.systemd-boot.xbootldrMountPoint`, which has the kernels then, it is the size of
        that partition.
      '';
    };

    espSize = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = literalExpression "128 * 1024 * 1024";
      description = ''
        The size in bytes of an ESP beside the partition of
        {option}`boot.loader.systemd-boot.xbootldrMountPoint`; null for 64 MiB, or 260 MiB on a disk with
        4096-byte sectors. It holds no more than systemd-boot itself. Without such a partition, it has no
        meaning: {option}`sane.image.bootPartSize` is the size of the ESP.
      '';
    };

    nixFreeSpace = mkOption {
      type = types.ints.unsigned;
      default = if fileSystems.isSealed then 0 else 512 * MiB;
      defaultText = lib.literalMD "512 MiB, or 0 on a filesystem that cannot be written";
      example = literalExpression "4 * 1024 * 1024 * 1024";
      description = ''
        Bytes to leave free on the filesystem that holds the store. They make the image longer, but its file
        has holes there. {option}`sane.image.diskSize` sets the size of the whole disk, and
        {option}`sane.image.growNixPartition` uses the disk that there is.
      '';
    };

    sectorSize = mkOption {
      type = types.enum [
        512
        4096
      ];
      default = 512;
      example = 4096;
      description = ''
        The logical sector size of the disk that the image is for. Most disks have 512 bytes; NVMe and UFS
        disks may have 4096. A disk of the other size shows no partitions. With 4096,
        {option}`sane.image.bootPartSize` must be over 257 MiB.
      '';
    };

    installBootloader = mkOption {
      type = types.nullOr types.lines;
      default = null;
      example = literalExpression ''
        '''
          dd if=''${pkgs.ubootPine64LTS}/u-boot-sunxi-with-spl.bin of=$out/nixos.img bs=1024 seek=8 conv=notrunc
        '''
      '';
      description = ''
        Shell code that runs last and may write to the image, {file}`$out/nixos.img` (or the name that
        {option}`sane.image.name` gives it); null for none. Use `conv=notrunc` with {command}`dd`. It runs on
        the machine that builds.

        It runs twice and must write the same both times: first with `SANE_IMAGE_REHEARSAL=1`, on a file that
        has only the partition table and the boot partition. Writing into the table or a partition is an
        error, before the store is copied. Gaps and the boot code of the MBR are free.
      '';
    };

    verify = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the build reads the finished image again and proves it: the NAR hash of every store path, and
        the structures of all filesystems. The build fails if there is a fault.
      '';
    };

    extraBuildFlags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "--io"
        "buffered"
      ];
      description = ''
        More arguments for {command}`sane-image build`. They change how the image is made, not what is in it.
      '';
    };

    registerNixPaths = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether the first boot registers the store paths of the image in Nix's database, and makes the running
        system generation 1 of the system profile. Without this, Nix believes that the store is empty, and
        {command}`nixos-rebuild` does not work.
      '';
    };

    growNixPartition = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the machine grows the last partition, which holds the store, and its filesystem to the end of
        the disk. It looks at each boot, so a virtual disk may be made larger at any time.
      '';
    };
  };

  config = lib.mkIf cfg.enable (
    {
      system.build.img =
        builtins.seq (lib.foldl' (told: warning: lib.warn warning told) null warnings)
          (
            if errors == [ ] then
              img
            else
              throw ''
                this host cannot have an image:
                ${lib.concatMapStringsSep "\n" (error: "- ${error}") errors}''
          );

      systemd = {
        inherit (firstBoot) services;
      }
      # With a nixpkgs that knows it.
      // lib.optionalAttrs (options ? systemd.sysupdate.transfers) {
        services = firstBoot.services // appliance.services;
        sysupdate = lib.mkIf (appliance.sysupdate != { }) {
          enable = true;
          transfers = appliance.sysupdate;
        };
      };
      boot = {
        inherit (appliance) kernelParams;
      };
      environment = {
        inherit (appliance) etc;
      };
    }
    // lib.optionalAttrs (options ? nix.settings) { nix.settings = appliance.nixSettings; }
    # With a nixpkgs that has variants of images: system.build.images.sane, and one for each format.
    // lib.optionalAttrs (options ? image.modules) { image.modules = output.variants; }
  );
}
