# Hosts that show what the module makes of them: their specs, or their errors.
{ lib, pkgs }:
let
  esp = {
    device = "/dev/disk/by-uuid/2178-694E";
    fsType = "vfat";
  };
  nix = {
    device = "/dev/disk/by-uuid/0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11";
    fsType = "ext4";
  };
  tmpfs = {
    device = "none";
    fsType = "tmpfs";
    options = [
      "size=2G"
      "mode=755"
    ];
  };
  extlinux = {
    enable = true;
    populateCmd = "extlinux-builder -g 20 -t 5";
  };
  on = fileSystems: {
    inherit fileSystems;
    boot.loader.generic-extlinux-compatible = extlinux;
  };
  base = on {
    "/boot" = esp;
    "/" = nix;
  };
  baseWith = image: base // { sane = { inherit image; }; };
  baseBy = loader: base // { boot = { inherit loader; }; };
  limineBios = {
    enable = true;
    efiSupport = false;
    biosSupport = true;
    biosDevice = "/dev/sda";
    partitionIndex = 1;
  };
  # A host with GRUB on these filesystems.
  grubOn = fileSystems: grub: {
    inherit fileSystems;
    boot.loader.grub = {
      enable = true;
    }
    // grub;
  };
  grubBy = grubOn { "/" = nix; };
  bios.device = "/dev/sda";
  bootAt = path: {
    inherit path;
    devices = [ "/dev/sda" ];
  };
  uefi = {
    device = "nodev";
    efiSupport = true;
    efiInstallAsRemovable = true;
  };
  package = name: pkgs.writeText name "";
  appliances = import ./appliance-hosts.nix { inherit package; };

  random = device: {
    inherit device;
    randomEncryption.enable = true;
  };
  swap = {
    name = "swap";
    typeGuid = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
    size = 1024 * 1024 * 1024;
  };
in
{
  # Each has a golden of its name: its whole spec.
  specs = appliances.specs // {
    boot-and-root = base;
    boot-and-nix = on {
      "/boot" = esp;
      "/" = nix // {
        device = "/dev/disk/by-label/root";
        neededForBoot = true;
      };
      "/nix" = nix;
    };
    boot-and-nix-store = on {
      "/boot" = esp;
      "/" = nix // {
        device = "/dev/disk/by-label/root";
      };
      "/nix/store" = nix // {
        options = [ "noatime" ];
      };
    };
    tmpfs-root = on {
      "/boot" = esp;
      "/" = tmpfs;
      "/nix" = nix;
      "/off" = nix // {
        enable = false;
      };
    };
    by-label = on {
      # The name of an entry is no more than the default of its mount point.
      esp = esp // {
        mountPoint = "/boot";
        device = "/dev/disk/by-label/ESP";
      };
      "/" = nix // {
        device = "/dev/disk/by-partlabel/system";
      };
    };
    btrfs = on {
      "/boot" = esp;
      "/" = tmpfs;
      "/nix" = nix // {
        fsType = "btrfs";
        options = [
          "subvol=@nix"
          "compress=zstd"
        ];
      };
      "/home" = nix // {
        fsType = "btrfs";
        options = [ "subvol=@home" ];
      };
    };

    systemd-boot = baseBy { systemd-boot.enable = true; };
    systemd-boot-all-set =
      baseBy {
        timeout = null;
        systemd-boot = {
          enable = true;
          editor = false;
          consoleMode = "max";
          bootCounting.enable = true;
          rebootForBitlocker = true;
          installDeviceTree = true;
          extraFiles."efi/memtest86/memtest.efi" = package "memtest.efi";
          extraEntries."memtest86.conf" = "efi /efi/memtest86/memtest.efi\n";
        };
      }
      // {
        hardware.deviceTree = {
          name = "vendor/board.dtb";
          package = package "device-trees";
        };
        system.nixos.distroName = "OtherOS";
      };
    systemd-boot-at-efi =
      on {
        "/efi" = esp;
        "/" = nix;
      }
      // {
        boot.loader = {
          systemd-boot.enable = true;
          efi.efiSysMountPoint = "/efi";
        };
      };
    systemd-boot-xbootldr =
      on {
        "/boot" = esp // {
          device = "/dev/disk/by-label/XBOOTLDR";
        };
        "/efi" = esp;
        "/" = nix;
      }
      // {
        boot.loader = {
          systemd-boot.enable = true;
          systemd-boot.xbootldrMountPoint = "/boot";
          efi.efiSysMountPoint = "/efi";
        };
        sane.image.espSize = 128 * 1024 * 1024;
      };
    extlinux-without-esp = on { "/" = nix; };
    # Nothing needs an ESP, and nothing is at /boot.
    own-boot-code = {
      fileSystems."/" = nix;
      sane.image.installBootloader = "dd if=${package "u-boot"} of=$out/nixos.img conv=notrunc bs=1024 seek=8";
    };

    grub-bios = grubBy bios;
    grub-hybrid = grubOn base.fileSystems (uefi // bios);
    grub-uefi-at-boot-efi =
      let
        host = grubOn {
          "/boot/efi" = esp;
          "/" = nix;
        } uefi;
      in
      host
      // {
        boot.loader = host.boot.loader // {
          efi.efiSysMountPoint = "/boot/efi";
        };
      };
    grub-btrfs-subvolumes =
      let
        subvolume = name: {
          device = "/dev/disk/by-label/nixos";
          fsType = "btrfs";
          options = [
            "subvol=${name}"
            "compress=zstd"
          ];
        };
      in
      grubOn {
        "/" = subvolume "@";
        "/nix" = subvolume "@nix";
        "/boot" = subvolume "@boot";
      } bios;
    # The host has no ESP, and its /boot is elsewhere in the image.
    grub-boot-bound = grubOn {
      "/" = tmpfs;
      "/nix" = nix;
      "/boot" = {
        device = "/nix/boot";
        fsType = "none";
        options = [ "bind" ];
      };
    } bios;
    grub-all-set =
      let
        efi = {
          "/efi" = esp;
          "/" = nix;
        };
        host = grubOn efi {
          mirroredBoots = [
            {
              path = "/boot";
              efiSysMountPoint = "/efi";
              efiBootloaderId = "mine";
              devices = [
                "/dev/sda"
                "/dev/sdb"
              ];
            }
          ];
          efiSupport = true;
          forcei686 = true;
          zfsSupport = true;
          forceInstall = true;
          extraGrubInstallArgs = [ "--modules=nativedisk ahci" ];
          default = "saved";
          timeoutStyle = "hidden";
          configurationLimit = 20;
          copyKernels = true;
          storePath = "/store";
          fsIdentifier = "label";
          extraConfig = "serial --unit=0\n";
          extraPerEntryConfig = "root (hd0)";
          extraEntries = "menuentry Other { true }\n";
          extraEntriesBeforeNixOS = true;
          entryOptions = null;
          subEntryOptions = "--class sub";
          font = "${package "fonts"}/sans.ttf";
          fontSize = 24;
          splashImage = ./goldens/esp.txt;
          splashMode = "normal";
          backgroundColor = "#2F302F";
          theme = package "theme";
          gfxmodeEfi = "1x1";
          gfxmodeBios = "2x2";
          gfxpayloadEfi = "3x3";
          gfxpayloadBios = "4x4";
          users.root.hashedPassword = "grub.pbkdf2.sha512.10000.AA.BB";
          users.guest.password = "secret";
          # As memtest86 and ipxe do it.
          extraFiles."memtest.bin" = package "memtest.efi";
          extraFiles."a b.ipxe" = ./goldens/esp.txt;
        };
      in
      host
      // {
        boot.loader = host.boot.loader // {
          timeout = null;
          efi.canTouchEfiVariables = true;
        };
        system.nixos.distroName = "OtherOS";
      };
    limine-uefi = baseBy { limine.enable = true; };
    limine-bios = baseBy { limine = limineBios; };
    limine-all-set =
      on {
        "/efi" = esp;
        "/" = nix;
      }
      // {
        boot.loader = {
          timeout = null;
          efi.canTouchEfiVariables = true;
          efi.efiSysMountPoint = "/efi";
          limine = limineBios // {
            efiSupport = true;
            package = package "limine";
            enableEditor = true;
            extraConfig = "serial: yes\n";
            extraEntries = "/Other\n";
            resolution = "1x1";
            additionalFiles."a/b.efi" = ./goldens/esp.txt;
            validateChecksums = false;
            panicOnChecksumMismatch = true;
            style = {
              wallpapers = [ ./goldens/esp.txt ];
              wallpaperStyle = "tiled";
              backdrop = "000001";
              interface = {
                resolution = "2x2";
                branding = "Ours";
                brandingColor = "000002";
                helpColor = "000003";
                helpColorBright = "000004";
                helpHidden = true;
              };
              graphicalTerminal = {
                font.scale = "3x3";
                font.spacing = 1;
                palette = "000005";
                brightPalette = "000006";
                foreground = "000007";
                background = "000008";
                brightForeground = "000009";
                brightBackground = "000010";
                margin = 2;
                marginGradient = 3;
              };
            };
          };
        };
        system.nixos.distroName = "OtherOS";
      };
    limine-not-in-image =
      baseBy {
        limine.enable = true;
        limine.secureBoot.enable = true;
      }
      // {
        sane.image.limine = false;
      };
    # An image that boots otherwise than its host.
    grub-in-image-alone = on { "/" = nix; } // {
      boot.loader.grub = bios;
      sane.image.grub = true;
    };
    grub-not-in-image = grubOn base.fileSystems { enableCryptodisk = true; } // {
      sane.image.grub = false;
      sane.image.systemdBoot = true;
    };
    both-loaders = baseBy {
      generic-extlinux-compatible = extlinux;
      systemd-boot.enable = true;
    };
    systemd-boot-not-in-image =
      baseBy {
        systemd-boot.enable = true;
        # Of no use without it.
        systemd-boot.xbootldrMountPoint = "/boot";
        efi.efiSysMountPoint = "/efi";
      }
      // {
        sane.image.systemdBoot = false;
        sane.image.extraBootFiles = [ (package "firmware") ];
      };
    swap = baseWith { swapSize = 1024 * 1024 * 1024; } // {
      swapDevices = [
        { device = "/swapfile"; }
        { device = "/dev/disk/by-label/swap"; }
      ];
    };
    swap-by-partlabel-encrypted = baseWith { swapSize = 1024 * 1024 * 1024; } // {
      swapDevices = [ (random "/dev/disk/by-partlabel/my\\x20swap") ];
    };
    swap-large-pages =
      baseWith {
        swapSize = 1024 * 1024 * 1024;
        swapPageSize = 16384;
        extraPartitions = [
          {
            name = "more";
            typeGuid = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
            size = 1024 * 1024;
          }
        ];
      }
      // {
        swapDevices = [ { device = "/dev/disk/by-label/swap"; } ];
      };
    # Told from the host's own names for them.
    swaps-declared =
      baseWith {
        extraPartitions = [
          (swap // { name = "plain"; })
          (swap // { name = "random / one"; })
          (
            swap
            // {
              name = "two";
              uuid = "9F2C7B44-5A1E-4D0B-8C36-E1D7A0B95F28";
            }
          )
          (
            swap
            // {
              name = "three";
              swapDevice = "/dev/disk/by-label/three";
            }
          )
        ];
      }
      // {
        swapDevices = [
          { device = "/dev/disk/by-partlabel/plain"; }
          { device = "/dev/disk/by-label/three"; }
          (random "/dev/disk/by-partlabel/random\\x20\\x2f\\x20one")
          (random "/dev/disk/by-partuuid/9f2c7b44-5a1e-4d0b-8c36-e1d7a0b95f28")
        ];
      };
    partitions =
      baseWith {
        platformPartSize = 64 * 1024 * 1024;
        extraPartitions = [
          swap
          {
            name = "data";
            typeGuid = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
            uuid = "9f2c7b44-5a1e-4d0b-8c36-e1d7a0b95f28";
            attributes = "0x8000000000000000";
            contents = package "data.img";
            place = "beforeBoot";
          }
        ];
        hybridMbr = [
          {
            partition = "boot";
            type = "0x0c";
            bootable = true;
          }
          {
            partition = "platform";
            type = 218;
          }
        ];
      }
      // {
        system.build.platformPartition = package "platform.img";
      };
  };

  # As the first of those with systemd-boot, on a nixpkgs with fewer options of it.
  old-nixpkgs = baseBy { systemd-boot.enable = true; };

  # What is said of these when their images are asked for: the golden warnings.txt.
  warned = appliances.warned // {
    no-boot-loader = baseBy { };
    not-grub = baseBy { grub.enable = true; } // {
      sane.image.grub = false;
    };
    not-limine = baseBy { limine.enable = true; } // {
      sane.image.limine = false;
      sane.image.populateCmd = null;
    };
    limine-that-nobody-renews = baseBy { limine = removeAttrs limineBios [ "biosDevice" ]; };
    limine-in-the-table = baseBy {
      limine = removeAttrs limineBios [ "partitionIndex" ] // {
        extraInstallCommands = "true";
      };
    };
    grub = grubBy bios;
    # What runs on the machine only. That extraFiles are copied, too, is no more than what an image does.
    grub-commands = grubBy (
      bios
      // {
        extraFiles."memtest.bin" = package "memtest.efi";
        extraInstallCommands = "true";
        extraPrepareConfig = "cp a b";
        useOSProber = true;
      }
    );
    grub-files = grubBy (
      bios
      // {
        extraFiles."memtest 86.bin" = package "memtest.efi";
      }
    );
    grub-menu-alone = grubBy { device = "nodev"; };
    grub-that-nobody-renews = grubOn base.fileSystems (uefi // { efiInstallAsRemovable = false; });
    install-commands = baseBy {
      systemd-boot.enable = true;
      systemd-boot.extraInstallCommands = "true";
    };
    read-only-store = on {
      "/boot" = esp;
      "/" = nix // {
        options = [ "ro" ];
      };
    };
    # Nothing at all.
    extlinux = baseBy { generic-extlinux-compatible = extlinux; };
    systemd-boot = baseBy { systemd-boot.enable = true; };
    systemdBoot = baseBy { } // {
      sane.image.systemdBoot = true;
    };
    populateCmd = baseBy { } // {
      sane.image.populateCmd = "populate";
    };
    extraBootFiles = baseBy { } // {
      sane.image.extraBootFiles = [ (package "firmware") ];
    };
    platformPartSize = baseBy { } // {
      sane.image.platformPartSize = 1024 * 1024;
      system.build.platformPartition = package "platform.img";
    };
    installBootloader = baseBy { } // {
      sane.image.installBootloader = "true";
    };
  };

  # Each changes one thing of boot-and-root: the golden options.diff shows what that does.
  options = {
    name = baseWith { name = "host"; };
    storeContents = baseWith { storeContents = [ (package "other-root") ]; };
    populateCmd = baseWith { populateCmd = "populate --flag"; };
    extraBootFiles = baseWith {
      extraBootFiles = [
        (package "firmware")
        ./standin/image
      ];
    };
    extraDirectories = baseWith { extraDirectories = [ "/var/log" ]; };
    files = baseWith {
      files = {
        "/etc/motd".text = "welcome\n";
        "/etc/localtime".symlink = "/etc/zoneinfo/UTC";
        "/home/alice" = {
          directory = true;
          mode = "0700";
          user = 1000;
          group = "root";
        };
        "/srv/tree".source = ./standin/image;
      };
    };
    extraGPTPadding = baseWith { extraGPTPadding = 8 * 1024 * 1024; };
    extraGPTPadding-past-16-MiB = baseWith { extraGPTPadding = 20 * 1024 * 1024; };
    firstPartGap = baseWith { firstPartGap = 1024 * 1024; };
    firstPartGap-none = baseWith { firstPartGap = null; };
    bootPartSize = baseWith { bootPartSize = 1024 * 1024 * 1024; };
    nixFreeSpace = baseWith { nixFreeSpace = 0; };
    sectorSize = baseWith { sectorSize = 4096; };
    diskSize = baseWith { diskSize = 4 * 1024 * 1024 * 1024; };
    format = baseWith {
      format = "qcow2+zstd";
      compressionLevel = 22;
    };
    # A format that is there twice is written once.
    format-list = baseWith {
      format = [
        "gce"
        "zst"
        "raw"
        "zst"
      ];
      blockMap = true;
    };
    # There is nothing to be compressed by zstd.
    compressionLevel = baseWith { compressionLevel = 1; };
    blockMap = baseWith { blockMap = true; };
    installBootloader = baseWith {
      installBootloader = ''
        dd if=${package "u-boot"} of=$out/nixos.img conv=notrunc bs=1024 seek=8
      '';
    };
    # These have nothing to do with the image itself.
    extraBuildFlags = baseWith {
      extraBuildFlags = [
        "--io"
        "buffered"
      ];
    };
    verify = baseWith { verify = true; };
    registerNixPaths = baseWith { registerNixPaths = false; };
    growNixPartition = baseWith { growNixPartition = true; };
    nixDatabase = baseWith { nixDatabase = true; };
  };

  # Each cannot have an image: the golden errors.txt shows what is said of that.
  errors = appliances.errors // {
    files-owner = baseWith {
      files."/etc/x" = {
        text = "";
        user = "alice";
        group = "wheels";
      };
    };
    nothing = { };
    no-boot = {
      fileSystems."/" = nix;
      boot.loader.systemd-boot.enable = true;
    };
    no-room-for-boot = on {
      "/" = tmpfs;
      "/nix" = nix;
    };
    boot-beside-the-esp = {
      boot.loader = {
        systemd-boot.enable = true;
        efi.efiSysMountPoint = "/efi";
      };
      fileSystems = {
        "/boot" = nix // {
          device = "/dev/disk/by-label/boot";
        };
        "/efi" = esp;
        "/" = nix;
      };
    };
    esp-elsewhere = baseBy {
      systemd-boot.enable = true;
      efi.efiSysMountPoint = "/boot/efi";
    };
    extlinux-beside-fat = on {
      "/boot/firmware" = esp;
      "/" = nix;
    };
    hybrid-mbr-without-esp = on { "/" = nix; } // {
      sane.image.hybridMbr = [
        {
          partition = "boot";
          type = 12;
        }
      ];
    };
    grub-without-device = grubBy { };
    grub-without-esp = grubBy uefi;
    grub-large-sectors = grubBy bios // {
      sane.image.sectorSize = 4096;
    };
    grub-and-systemd-boot = grubOn base.fileSystems uefi // {
      sane.image.systemdBoot = true;
    };
    limine-large-sectors = baseBy { limine = limineBios; } // {
      sane.image.sectorSize = 4096;
    };
    limine-secure-boot = baseBy {
      limine.enable = true;
      limine.secureBoot.enable = true;
    };
    limine-and-others =
      baseBy {
        limine.enable = true;
        grub = bios // {
          enable = true;
        };
      }
      // {
        sane.image.systemdBoot = true;
      };
    limine-without-esp = on { "/" = nix; } // {
      boot.loader.limine = limineBios;
    };
    grub-mirrored = grubBy {
      mirroredBoots = [
        (bootAt "/boot1")
        (bootAt "/boot2")
      ];
    };
    grub-elsewhere = grubBy { mirroredBoots = [ (bootAt "/boot1") ]; };
    grub-options = grubBy (
      bios
      // {
        enableCryptodisk = true;
        extraGrubInstallArgs = [
          "--modules=ahci"
          "--compress=xz"
        ];
        splashImage = "/etc/splash.png";
        theme = "/etc/theme";
        extraFiles."a.bin" = "/etc/a.bin";
        users = {
          a.hashedPasswordFile = "/run/a";
          b.passwordFile = "/run/b";
          c.hashedPassword = "$6$salt";
          d = { };
        };
      }
    );
    no-nix = on { "/boot" = esp; };
    xfs = on {
      "/boot" = esp;
      "/nix" = nix // {
        fsType = "xfs";
      };
    };
    device-names = on {
      "/boot" = esp // {
        device = "/dev/sda1";
      };
      "/" = nix // {
        device = null;
      };
    };
    all-at-once = on {
      "/boot" = esp // {
        fsType = "ext4";
        device = "UUID=2178-694E";
      };
      "/" = tmpfs;
    };
    xbootldr = baseBy {
      systemd-boot.enable = true;
      systemd-boot.xbootldrMountPoint = "/boot";
      efi.efiSysMountPoint = "/efi";
    };
    swapSize-without-a-device = baseWith { swapSize = 1024 * 1024; } // {
      swapDevices = [
        { device = "/dev/sda2"; }
        { device = "/swapfile"; }
      ];
    };
    swapSize-of-two = baseWith { swapSize = 1024 * 1024; } // {
      swapDevices = [
        { device = "/dev/disk/by-label/one"; }
        { device = "/dev/disk/by-label/two"; }
      ];
    };
    blockMap-of-no-format = baseWith {
      blockMap = true;
      format = [
        "qcow2"
        "qcow2+zstd"
      ];
    };
    compressionLevel-of-others = baseWith {
      compressionLevel = 19;
      format = [
        "zst"
        "vmdk"
      ];
    };
    diskSize-odd = baseWith { diskSize = 1000 * 1000 * 1000; };
    diskSize-of-gce = baseWith {
      diskSize = 1536 * 1024 * 1024;
      format = "gce";
    };
    no-platformPartition = baseWith { platformPartSize = 64 * 1024 * 1024; };
    no-partition = baseWith {
      extraPartitions = [
        (swap // { size = null; })
      ];
      hybridMbr = [
        {
          partition = "data";
          type = 12;
        }
      ];
    };
  };

  # Each is refused for the option of its name, up to a hyphen.
  refused = appliances.refused // {
    sectorSize = baseWith { sectorSize = 2048; };
    bootPartSize = baseWith { bootPartSize = 0; };
    blockMap = baseWith { blockMap = "zst"; };
    compressionLevel = baseWith { compressionLevel = 0; };
    compressionLevel-high = baseWith { compressionLevel = 23; };
    diskSize = baseWith { diskSize = 0; };
    format = baseWith { format = "img"; };
    format-list = baseWith {
      format = [
        "raw"
        "vmdx"
      ];
    };
    format-none = baseWith { format = [ ]; };
    extraDirectories = baseWith { extraDirectories = [ "var/log" ]; };
    files = baseWith {
      files."/etc/x" = {
        text = "";
        mode = "rw";
      };
    };
    installBootLoader = baseWith { installBootLoader = "true"; };
    extraPartitions = baseWith { extraPartitions = [ (swap // { typeGuid = "8200"; }) ]; };
    hybridMbr = baseWith {
      hybridMbr = [
        {
          partition = "boot";
          type = 256;
        }
      ];
    };
    platformPartSize = baseWith { platformPartSize = 0; };
    swapSize = baseWith { swapSize = 0; };
    systemdBoot = baseWith { systemdBoot = { }; };
    grub = baseWith { grub = { }; };
    limine = baseWith { limine = { }; };
  };

  disabled = baseWith { enable = false; };
}
