# Hosts whose store cannot be written, which hosts.nix adds to its own.
{ package }:
let
  esp = {
    device = "/dev/disk/by-label/ESP";
    fsType = "vfat";
  };
  tmpfs = {
    device = "none";
    fsType = "tmpfs";
    options = [ "mode=755" ];
  };
  erofs = {
    device = "/dev/disk/by-uuid/0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11";
    fsType = "erofs";
    options = [ "ro" ];
    noCheck = true;
  };
  sealed = erofs // {
    device = "/dev/mapper/usr";
  };
  initrd.systemd = {
    enable = true;
    dmVerity.enable = true;
  };
  # What a sealed store needs, as errors say.
  hostWith = fileSystems: image: {
    fileSystems = {
      "/boot" = esp;
      "/" = tmpfs;
    }
    // fileSystems;
    boot = {
      inherit initrd;
      loader.systemd-boot.enable = true;
    };
    system = {
      build.initialRamdisk = package "initrd";
      image.id = "kiosk";
      image.version = "1.2";
    };
    sane = { inherit image; };
  };
  host = store: hostWith { "/nix/store" = store; };
  sealing = {
    verity.enable = true;
    uki.enable = true;
  };
  updating = sealing // {
    updates.enable = true;
  };
  # The host with one value set deep inside.
  without = host: boot: host // { boot = host.boot // boot; };
in
{
  specs = {
    appliance =
      without
        (host sealed (
          sealing
          // {
            erofsCompression = "zstd:3";
            uki.enable = true;
            uki.tries = 3;
            updates = {
              enable = true;
              slotSize = 4 * 1024 * 1024 * 1024;
              url = "https://updates.example.org/kiosk/";
              keyring = package "keys";
            };
          }
        ))
        {
          kernelParams = [
            "panic=10"
            "boot.panic_on_fail"
          ];
        };
    # As nixpkgs lays it out.
    appliance-usr = hostWith {
      "/usr" = sealed;
      "/nix/store" = {
        device = "/usr/nix/store";
        fsType = "none";
        options = [ "bind" ];
      };
    } sealing;
    appliance-ext4 = host (
      sealed
      // {
        device = "/dev/mapper/root";
        fsType = "ext4";
      }
    ) sealing;
    # Without a seal, and without the kernel in one file.
    appliance-erofs = host (removeAttrs erofs [ "options" ]) { nixDatabase = false; };
    appliance-by-label = host (erofs // { device = "/dev/disk/by-partlabel/kiosk_1.2"; }) {
      uki.enable = true;
      updates.enable = true;
    };
  };

  warned = {
    appliance = host sealed updating;
    appliance-that-grows = host (erofs // { noCheck = false; }) {
      growNixPartition = true;
      nixFreeSpace = 1024 * 1024;
    };
    # Nix cannot have its database anywhere.
    appliance-nix = hostWith { "/nix" = erofs; } { };
    # Nothing starts it again.
    uki-that-waits = host sealed (
      sealing
      // {
        uki.enable = true;
        uki.tries = 3;
      }
    );
    sealed-without-uki = host sealed { verity.enable = true; };
    uki-without-loader = without (host erofs { uki.enable = true; }) { loader = { }; };
  };

  errors = {
    erofs-root = hostWith { "/" = erofs; } { };
    erofs-compression-of-ext4 = host (erofs // { fsType = "ext4"; }) { erofsCompression = "lz4"; };
    erofs-zstd-of-an-old-kernel = without (host erofs { erofsCompression = "zstd"; }) {
      kernelPackages.kernel = package "linux" // {
        version = "6.6.1";
        modDirVersion = "6.6.1";
      };
    };
    erofs-unknown-to-the-initrd = without (host erofs { }) {
      initrd.supportedFilesystems.vfat = true;
    };
    sealed-root = hostWith {
      "/" = sealed // {
        fsType = "btrfs";
      };
    } sealing;
    sealed-by-uuid = host erofs sealing;
    sealed-and-writable = host (removeAttrs sealed [ "options" ] // { fsType = "ext4"; }) sealing;
    sealed-without-initrd = without (host sealed sealing) { initrd = { }; };
    sealed-nowhere = host sealed { };
    uki-and-grub =
      without
        (host erofs {
          uki.enable = true;
          uki.tries = 3;
        })
        {
          loader.grub = {
            enable = true;
            device = "nodev";
            efiSupport = true;
          };
          initrd.secrets."/key" = "/key";
        };
    updates-of-nothing = host (
      erofs
      // {
        fsType = "ext4";
        options = [ "noatime" ];
      }
    ) { updates.enable = true; };
    updates-by-other-names = host sealed (
      updating
      // {
        updates.enable = true;
        updates.name = "a-name-that-is-rather-long";
        updates.version = "2026-11-27";
      }
    );
    updates-without-version = host sealed updating // {
      system.build.initialRamdisk = package "initrd";
    };
  };

  refused = {
    erofsCompression = host erofs { erofsCompression = "zstd:23"; };
    uki = host erofs {
      uki.enable = true;
      uki.name = "a/b";
    };
    updates = host sealed (
      sealing
      // {
        updates.enable = true;
        updates.version = "1_2";
      }
    );
    verity = host sealed { verity.enable = "yes"; };
    nixDatabase = host erofs { nixDatabase = "no"; };
  };
}
