# The example as an appliance: its store on a sealed erofs, its kernel in a unified kernel image, two slots for updates.
{
  closed,
  pkgs,
  toplevel,
}:
let
  host = closed {
    device = "/dev/mapper/usr";
    fsType = "erofs";
    options = [ "ro" ];
    noCheck = true;
  };
in
removeAttrs host [ "boot" ]
// {
  # The machine's.
  systemd.package = pkgs.runCommand "systemd" { } ''
    mkdir -p "$out/lib/systemd/boot"
    cp -r /usr/lib/systemd/boot/efi "$out/lib/systemd/boot"
  '';

  boot = {
    initrd.systemd.enable = true;
    initrd.systemd.dmVerity.enable = true;
    loader.systemd-boot.enable = true;
    kernelParams = [
      "panic=10"
      "boot.panic_on_fail"
    ];
    kernelPackages.kernel =
      pkgs.runCommand "linux" { } ''
        mkdir "$out"
        seq 100000 > "$out/bzImage"
      ''
      // {
        version = "6.18";
        modDirVersion = "6.18.0";
      };
  };

  system = {
    build = {
      inherit toplevel;
      initialRamdisk = pkgs.runCommand "initrd" { } ''
        mkdir "$out"
        seq 50000 > "$out/initrd"
      '';
    };
    image.id = "kiosk";
    image.version = "1";
  };

  sane.image = {
    inherit (host.sane.image) bootPartSize;
    erofsCompression = "zstd:3";
    verity.enable = true;
    uki.enable = true;
    uki.tries = 3;
    updates.enable = true;
    updates.slotSize = 16 * 1024 * 1024;
  };
}
