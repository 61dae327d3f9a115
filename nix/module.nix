# `sane.image.*`: the options of a disk image, `system.build.img`, and what the system does when it is
# booted from one for the first time.
#
# On a host that never asks for its image, this costs a unit with a condition. Whatever is wrong with
# the host's filesystems is an error of the image alone.
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
  bootLoaders = import ./boot-loaders.nix {
    inherit
      config
      fileSystems
      lib
      pkgs
      ;
  };
  fileSystems = import ./file-systems.nix { inherit config lib; };
  absentDevices = import ./absent-devices.nix {
    inherit
      config
      fileSystems
      lib
      partitions
      ;
  };
  output = import ./output.nix { inherit config lib; };
  ownFiles = import ./own-files.nix { inherit config lib; };
  partitions = import ./partitions.nix { inherit config lib; };

  inherit (fileSystems) nixFs;

  # What sane-image would refuse, but only once the whole system is built; first what the host would have
  # to do without.
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
  mistakes = fileSystems.errors ++ bootLoaders.errors ++ partitions.errors ++ ownFiles.errors ++ output.errors;

  # These are told with the errors, so that the next evaluation brings nothing new.
  warnings =
    if isNoMachine then
      [ ]
    else
      lib.optionals (mistakes == [ ]) bootLoaders.unserved
      ++ bootLoaders.warnings
      ++ absentDevices.warnings
      ++ lib.optional (registers && lib.elem "ro" nixFs.options) (
        ''fileSystems."${nixFs.mountPoint}".options has "ro", so that the first boot may not be able to tell ''
        + ''Nix of the store; remove "ro", or set sane.image.registerNixPaths to false''
      );

  img = import ./image.nix {
    inherit pkgs;
    inherit (config) fileSystems;
    inherit (config.system.build) toplevel;
    inherit (bootLoaders) systemdBoot;
    inherit (ownFiles) files;
    inherit (partitions) extraPartitions;
    inherit (cfg)
      blockMap
      bootPartSize
      compressionLevel
      diskSize
      extraBootFiles
      extraBuildFlags
      extraDirectories
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
  };

  # Where sane-image puts the list of all store paths of the image.
  registration = "${lib.removeSuffix "/" nixFs.mountPoint}/nix-path-registration";

  registers = cfg.registerNixPaths && config.nix.enable && nixFs != null;

  # A oneshot that works on the filesystem of the store before anything else needs it.
  earlyService =
    {
      description,
      # Services that may run at the same time otherwise, if the host has them.
      after,
      before,
      path,
      # A file, and what it is called with.
      script,
      arguments,
      unitConfig ? { },
    }:
    {
      inherit description;
      wantedBy = [ "sysinit.target" ];
      after = [ "local-fs.target" ] ++ after;
      before = before ++ [
        "sysinit.target"
        "shutdown.target"
      ];
      conflicts = [ "shutdown.target" ];
      unitConfig = unitConfig // {
        DefaultDependencies = false;
      };
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        PrivateMounts = true;
      };
      path = path ++ [ pkgs.util-linux ];
      # The text and not its path, so that the unit is whole by itself.
      script =
        "set -- ${lib.concatMapStringsSep " " lib.escapeShellArg arguments}\n" + builtins.readFile script;
    };
in
{
  options.sane.image = output.options // partitions.options // {
    enable = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether this host has an image at {option}`system.build.img`, and the services of its first
        boot. Nothing of the image is built, or even evaluated, before something asks for it.
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
        The store paths in the image: these and all that they refer to. The system itself must be
        among them; list it again when you add to the default.
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
        Whether {file}`/boot` holds systemd-boot and its entries for this system, as the options in
        {option}`boot.loader.systemd-boot` and {option}`boot.loader.timeout` say. The files are those
        that {command}`nixos-rebuild` writes on the machine, which takes over from there.
      '';
    };

    extraBootFiles = mkOption {
      type = types.listOf types.path;
      default = [ ];
      example = literalExpression "[ pkgs.raspberrypi-armstubs ]";
      description = ''
        Packages (or directories) whose contents go into {file}`/boot`, besides what
        {option}`sane.image.populateCmd` and {option}`sane.image.systemdBoot` put there. Symlinks are
        followed, since FAT has none. Two different files of one name are an error.
      '';
    };

    extraDirectories = mkOption {
      type = types.listOf (types.strMatching "/.+");
      default = [ ];
      example = [ "/var/log" ];
      description = ''
        Empty directories to make on the filesystem that holds the store, as absolute paths of the
        running system. For what is needed before the system could make it itself, such as the mount
        points of a read-only root.
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
                The file, or a directory that is taken whole. It comes by way of the Nix store, which
                everybody can read: see {command}`sane-image build --extra-files` for secrets.
              '';
            };
            text = mkOption {
              type = types.nullOr types.str;
              default = null;
              description = "What the file holds.";
            };
            symlink = mkOption {
              type = types.nullOr types.str;
              default = null;
              description = "Where the symbolic link leads.";
            };
            directory = mkOption {
              type = types.bool;
              default = false;
              description = "Whether it is a directory.";
            };
            mode = mkOption {
              type = types.nullOr (types.strMatching "[0-7]{3,4}");
              default = null;
              example = "0600";
              description = ''
                Its permissions; null for 0755 if it is a directory or executable, else 0644. Those of a
                {option}`source` that is a directory are given to its files; whoever may read one of its
                directories may enter it, too. FAT has none.
              '';
            };
            user = mkOption {
              type = types.either types.ints.unsigned types.str;
              default = 0;
              description = "The owner's number, or a name whose number {option}`users.users` fixes.";
            };
            group = mkOption {
              type = types.either types.ints.unsigned types.str;
              default = 0;
              description = "The group's number, or a name whose number {option}`users.groups` fixes.";
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
        The host's own files in the image, by the absolute paths that the running system has them at, with
        one of `source`, `text`, `symlink` and `directory` each. They lie on the filesystem of
        {option}`fileSystems` that the path is on, which must be one of the image's. Directories on the
        way are made, root's and 0755. On {file}`/boot`, they replace what comes from elsewhere.
      '';
    };

    extraGPTPadding = mkOption {
      type = types.ints.unsigned;
      default = 0;
      example = literalExpression "16 * 1024 * 1024 - 1024";
      description = ''
        Bytes between the header of the partition table and its entries, for boards whose firmware
        lies where the entries usually are, such as Allwinner's at 8 KiB. Never written to by
        sane-image, so that {option}`sane.image.installBootloader` may. Must be whole sectors.
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
        Bytes that stay unallocated between the partition table and the first partition; null for
        none. Never written to by sane-image: it is the place for boot loaders such as U-Boot.
        Partitions start at whole MiB, whatever the gap.
      '';
    };

    bootPartSize = mkOption {
      type = types.ints.positive;
      default = 512 * MiB;
      defaultText = literalExpression "512 * 1024 * 1024";
      example = literalExpression "1024 * 1024 * 1024";
      description = ''
        The size of the partition of {file}`/boot` in bytes. It cannot grow later, and holds a kernel
        and an initrd for each generation that the boot loader offers.
      '';
    };

    nixFreeSpace = mkOption {
      type = types.ints.unsigned;
      default = 512 * MiB;
      defaultText = literalExpression "512 * 1024 * 1024";
      example = literalExpression "4 * 1024 * 1024 * 1024";
      description = ''
        Bytes to be free on the filesystem that holds the store. They make the image longer, but stay
        holes in its file. See {option}`sane.image.diskSize` for a disk of a certain size, and
        {option}`sane.image.growNixPartition` for using whatever disk there is.
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
        The logical sector size of the disk that the image is written to. Most have 512 bytes; NVMe
        and UFS disks may be formatted with 4096. An image made for the other size has no partitions
        there. With 4096, {option}`sane.image.bootPartSize` must be over 257 MiB.
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
        Shell code that runs last and may write to the image, {file}`$out/nixos.img` (or what
        {option}`sane.image.name` makes of it); null for none. Pass `conv=notrunc` to {command}`dd`.
        It runs on the machine that builds.

        It runs twice, and must write the same both times: at first with `SANE_IMAGE_REHEARSAL=1`, on a
        file with nothing but the partition table and the boot partition. A write into a partition or
        the table is an error before the store is copied; gaps and the MBR's boot code are free.
      '';
    };

    verify = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether the build reads the finished image again and proves it: the NAR hash of every store
        path and the structures of all filesystems. An image that is not right makes the build fail.
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
        More arguments for {command}`sane-image build`. They change how the image is made, never what
        is in it.
      '';
    };

    registerNixPaths = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether the first boot tells Nix of the store paths that came with the image, and makes the
        running system the first generation of its profile. Without that, Nix takes the store for
        empty, and {command}`nixos-rebuild` does not work.
      '';
    };

    growNixPartition = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether to grow the image's last partition, which holds the store, and its filesystem to the
        end of the disk. Looked after at each boot, so that it follows a virtual disk that is made
        bigger.
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

      systemd.services.sane-image-register = lib.mkIf registers (earlyService {
        description = "Registration of the store paths that came with the disk image";
        unitConfig.ConditionPathExists = registration;
        # Nix asks /etc/passwd and /etc/group.
        after = [
          "systemd-sysusers.service"
          "userborn.service"
        ];
        before = [
          "nix-daemon.socket"
          "nix-daemon.service"
        ];
        path = [ config.nix.package ];
        script = ./first-boot/register.sh;
        arguments = [ nixFs.mountPoint ];
      });

      systemd.services.sane-image-grow = lib.mkIf (cfg.growNixPartition && nixFs != null) (earlyService {
        description = "Growth of the partition that holds the Nix store to the end of the disk";
        # These write to the same partition table.
        after = [
          "growpart.service"
          "systemd-repart.service"
        ];
        before = [ "sane-image-register.service" ];
        path = [ (if nixFs.fsType == "btrfs" then pkgs.btrfs-progs else pkgs.e2fsprogs) ];
        script = ./first-boot/grow.sh;
        arguments = [
          nixFs.mountPoint
          nixFs.fsType
        ];
      });
    }
    # With a nixpkgs that has variants of images: system.build.images.sane, and one for each format.
    // lib.optionalAttrs (options ? image.modules) { image.modules = output.variants; }
  );
}
