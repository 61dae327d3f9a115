# A virtual machine boots an image by UEFI and systemd-boot or by a BIOS and GRUB, on a disk bigger than the
# image, and finds itself a NixOS that can be rebuilt; then it boots again.
{
  self,
  firmware ? "uefi",
}:
let
  isUefi = firmware == "uefi";
in
{
  name = "sane-image-boot-${firmware}";

  nodes.machine =
    { lib, ... }:
    {
      imports = [ self.nixosModules.default ];

      # The image alone: neither the kernel nor the store comes from the host of the virtual machine.
      virtualisation = {
        directBoot.enable = false;
        mountHostNixStore = false;
        useEFIBoot = isUefi;
        fileSystems = lib.mkForce (
          {
            "/" = {
              device = "/dev/disk/by-uuid/6c1a9c4e-3f0b-4b57-9a2e-5d8f0e7b1a34";
              fsType = "ext4";
            };
          }
          // lib.optionalAttrs isUefi {
            "/boot" = {
              device = "/dev/disk/by-uuid/4A1C-9E02";
              fsType = "vfat";
            };
          }
        );
      };
      # Otherwise it has GRUB, on the disk that the test gives it.
      boot.loader.systemd-boot.enable = isUefi;
      # There is no room for a boot loader's menu in a test.
      boot.loader.timeout = 0;

      sane.image.growNixPartition = true;
    };

  testScript =
    { nodes, ... }:
    let
      inherit (nodes.machine.system.build) img toplevel;
    in
    ''
      import os
      import subprocess
      import tempfile

      disk = tempfile.NamedTemporaryFile(suffix=".qcow2")
      subprocess.run(
          [
              "${nodes.machine.virtualisation.qemu.package}/bin/qemu-img", "create",
              "-f", "qcow2", "-F", "raw", "-b", "${img}/nixos.img",
              disk.name, "16G",
          ],
          check=True,
      )
      os.environ["NIX_DISK_IMAGE"] = disk.name

      def check_system():
          machine.wait_for_unit("multi-user.target")
          machine.succeed("test -e /etc/NIXOS")
          machine.fail("test -e /nix-path-registration")
          profile = machine.succeed("readlink -f /nix/var/nix/profiles/system").strip()
          assert profile == "${toplevel}", f"the system profile is {profile}"
          machine.succeed("nix-store --verify --check-contents >&2")
          size = int(machine.succeed("df --output=size --block-size=1G / | tail -n 1"))
          assert size >= 14, f"the filesystem has {size} GiB"

      with subtest("the first boot registers the store and grows"):
          check_system()

      with subtest("so does it stay"):
          machine.shutdown()
          machine.start()
          check_system()
    '';
}
