# Hosts as people have them, after public configurations: disks, boot loaders and swap alone. The golden
# common-hosts.txt has what each gets.
let
  uuid = "6c1a9c4e-3f0b-4b57-9a2e-5d8f0e7b1a34";
  byUuid = "/dev/disk/by-uuid/${uuid}";
  fs = device: fsType: { inherit device fsType; };
  ext4 = fs byUuid "ext4";
  vfat = fs "/dev/disk/by-uuid/4A1C-9E02" "vfat";
  tmpfs = fs "none" "tmpfs";
  subvolume = device: name: fs device "btrfs" // { options = [ "subvol=${name}" ]; };
  swap = device: [ { inherit device; } ];
  systemdBoot.systemd-boot.enable = true;
  extlinux.generic-extlinux-compatible = {
    enable = true;
    populateCmd = "extlinux-builder -g 20 -t 5";
  };
  grubBios.grub = {
    enable = true;
    device = "/dev/sda";
  };
  grubEfi.efi.canTouchEfiVariables = true;
  grubEfi.grub = {
    enable = true;
    device = "nodev";
    efiSupport = true;
  };
  host = loader: fileSystems: {
    inherit fileSystems;
    boot = { inherit loader; };
  };
  usual = {
    "/boot" = vfat;
    "/" = ext4;
  };
in
{
  ### Desktops and laptops

  generated-by-the-installer = host systemdBoot usual // {
    swapDevices = swap "/dev/disk/by-uuid/0b7ae3ef-c2a1-4cbc-8a9b-6a1ae9a0a001";
  };
  swap-in-the-image = host systemdBoot usual // {
    swapDevices = swap "/dev/disk/by-uuid/0b7ae3ef-c2a1-4cbc-8a9b-6a1ae9a0a001";
    sane.image.swapSize = 8 * 1024 * 1024 * 1024;
  };
  labels-and-a-swap-file =
    host systemdBoot {
      "/boot" = fs "/dev/disk/by-label/NIXBOOT" "vfat";
      "/" = fs "/dev/disk/by-label/NIXROOT" "ext4";
    }
    // {
      swapDevices = [
        {
          device = "/var/lib/swapfile";
          size = 16384;
        }
      ];
    };
  home-on-another-partition = host systemdBoot (
    usual
    // {
      "/home" = fs "/dev/disk/by-uuid/0753de4a-c9de-4564-b166-f3973edc21fb" "ext4";
      "/data" = fs "/dev/sdb1" "ext4" // {
        options = [ "nofail" ];
      };
    }
  );
  grub-efi-at-boot = host grubEfi usual;
  grub-efi-at-boot-efi =
    host
      (
        grubEfi
        // {
          efi = grubEfi.efi // {
            efiSysMountPoint = "/boot/efi";
          };
        }
      )
      {
        "/boot/efi" = vfat;
        "/" = ext4;
      };
  grub-efi-with-a-boot-of-ext4 =
    host
      (
        grubEfi
        // {
          efi = grubEfi.efi // {
            efiSysMountPoint = "/boot/efi";
          };
        }
      )
      {
        "/boot/efi" = fs "/dev/nvme0n1p1" "vfat";
        "/boot" = fs "/dev/nvme0n1p2" "ext4";
        "/" = fs "/dev/nvme0n1p3" "ext4";
      };
  systemd-boot-at-efi =
    host
      (
        systemdBoot
        // {
          efi.efiSysMountPoint = "/efi";
        }
      )
      {
        "/efi" = vfat;
        "/" = ext4;
      };
  systemd-boot-with-xbootldr =
    host
      {
        efi.efiSysMountPoint = "/efi";
        systemd-boot = {
          enable = true;
          xbootldrMountPoint = "/boot";
        };
      }
      {
        "/efi" = vfat;
        "/boot" = fs "/dev/disk/by-label/XBOOTLDR" "vfat";
        "/" = ext4;
      };
  limine = host {
    limine.enable = true;
    limine.efiSupport = true;
  } usual;
  refind = host { refind.enable = true; } usual;
  lanzaboote-and-luks = {
    fileSystems = {
      "/boot" = vfat;
      "/" = fs "/dev/mapper/root" "ext4";
    };
    boot.lanzaboote.enable = true;
    boot.loader.external.enable = true;
    boot.initrd.luks.devices.root.device = "/dev/nvme0n1p2";
  };
  # As the installer writes it: the filesystem's own UUID, whatever is around it.
  luks-by-uuid = {
    fileSystems = usual;
    boot.loader = systemdBoot;
    boot.initrd.luks.devices."luks-9f2c7b44-5a1e-4d0b-8c36-e1d7a0b95f28".device =
      "/dev/disk/by-uuid/9f2c7b44-5a1e-4d0b-8c36-e1d7a0b95f28";
  };
  # As disko makes it.
  luks-btrfs-subvolumes = {
    fileSystems = {
      "/boot" = fs "/dev/disk/by-partlabel/disk-main-ESP" "vfat";
      "/" = subvolume "/dev/mapper/crypted" "/root";
      "/nix" = subvolume "/dev/mapper/crypted" "/nix";
      "/home" = subvolume "/dev/mapper/crypted" "/home";
    };
    boot.loader = systemdBoot;
    boot.initrd.luks.devices.crypted.device = "/dev/disk/by-partlabel/disk-main-luks";
    swapDevices = [
      {
        device = "/dev/disk/by-partlabel/disk-main-swap";
        randomEncryption.enable = true;
      }
    ];
  };
  btrfs-subvolumes-of-disko = host systemdBoot {
    "/boot" = fs "/dev/disk/by-partlabel/disk-main-ESP" "vfat";
    "/" = subvolume "/dev/disk/by-partlabel/disk-main-root" "/rootfs";
    "/nix" = subvolume "/dev/disk/by-partlabel/disk-main-root" "/nix";
    "/home" = subvolume "/dev/disk/by-partlabel/disk-main-root" "/home";
  };
  tmpfs-root-and-persist = host systemdBoot {
    "/boot" = fs "/dev/disk/by-id/nvme-Brand_Model_0123456789-part1" "vfat";
    "/" = tmpfs;
    "/persist" = ext4 // {
      neededForBoot = true;
    };
    "/nix" = fs "/persist/nix" "none" // {
      options = [ "bind" ];
    };
  };
  tmpfs-root-alone = host systemdBoot {
    "/boot" = vfat;
    "/" = tmpfs;
  };
  zfs = host systemdBoot {
    "/boot" = vfat;
    "/" = fs "rpool/root" "zfs";
    "/nix" = fs "rpool/nix" "zfs";
  };
  bcachefs-of-two-disks = host systemdBoot {
    "/boot" = fs "/dev/disk/by-label/ESP" "vfat";
    "/" = fs "/dev/disk/by-partlabel/nixos1:/dev/disk/by-partlabel/nixos2" "bcachefs";
  };
  tags-of-fstab = host systemdBoot {
    "/boot" = fs "PARTLABEL=EFI" "vfat";
    "/" = fs "UUID=${uuid}" "ext4";
  };

  ### Servers, boards, and what has no disk

  # As nixos-generators, amazon-image.nix and their like make it.
  grub-bios-by-label = host grubBios { "/" = fs "/dev/disk/by-label/nixos" "ext4"; };
  grub-hybrid-by-label =
    host
      {
        grub = grubBios.grub // {
          efiSupport = true;
          efiInstallAsRemovable = true;
        };
      }
      {
        "/boot" = fs "/dev/disk/by-label/ESP" "vfat";
        "/" = fs "/dev/disk/by-label/nixos" "ext4";
      };
  grub-bios-btrfs-subvolumes = host grubBios {
    "/" = subvolume "/dev/disk/by-label/nixos" "/root";
    "/nix" = subvolume "/dev/disk/by-label/nixos" "/nix";
  };
  grub-bios-with-a-boot-of-ext4 = host grubBios {
    "/boot" = fs "/dev/disk/by-label/boot" "ext4";
    "/" = ext4;
  };
  grub-bios-at-a-cloud = host grubBios { "/" = fs "/dev/sda1" "ext4"; };
  grub-bios-and-zfs-tank = host grubBios {
    "/" = fs "/dev/disk/by-label/nixos" "auto";
    "/tank" = fs "tank/data" "zfs";
  };
  grub-bios-and-nix-on-a-volume = host grubBios {
    "/" = fs "/dev/sda1" "ext4";
    "/storage" = fs "/dev/disk/by-id/scsi-0HC_Volume_0" "ext4";
    "/nix" = fs "/storage/nix" "none" // {
      options = [ "bind" ];
    };
  };
  data-disks-and-nfs = host systemdBoot (
    usual
    // {
      "/tank" = fs "tank/data" "zfs";
      "/srv" = fs "nas:/srv" "nfs";
      "/big" = fs "UUID=0753de4a-c9de-4564-b166-f3973edc21fb" "xfs";
    }
  );
  board-of-the-installer-image = host extlinux {
    "/" = fs "/dev/disk/by-label/NIXOS_SD" "ext4";
  };
  board-with-firmware = host extlinux {
    "/" = fs "/dev/disk/by-label/NIXOS_SD" "ext4";
    "/boot/firmware" = fs "/dev/disk/by-label/FIRMWARE" "vfat";
  };
  board-with-boot = host extlinux {
    "/" = fs "/dev/disk/by-label/NIXOS_SD" "ext4";
    "/boot" = fs "/dev/disk/by-label/NIXOS_BOOT" "vfat";
  };
  board-with-an-installer-of-its-own = host { external.enable = true; } usual;
  container.boot.isContainer = true;
  wsl.boot.kernel.enable = false;
}
