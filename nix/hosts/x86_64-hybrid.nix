# An image to hand out: a PC or virtual machine boots it by a BIOS or by UEFI, whichever it has.
#
# GRUB is in it for both. Kernels lie on the ESP at /boot, where both find them.
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "x86_64-linux";
  boot.loader.grub = {
    # The disk to which the machine itself installs newer versions of GRUB, for a BIOS...
    device = "/dev/sda";
    # ...and for UEFI, where every firmware looks.
    efiSupport = true;
    efiInstallAsRemovable = true;
  };

  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/B65E-0D17";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/e8c07a35-1f4d-4962-8b5e-6d30f9a2b714";
    fsType = "ext4";
  };
}
