# A host of a few files whose image can be built offline. It has what a store can hold: references,
# symlinks within and between paths, executables, empty files and directories, many small files, one
# of many blocks, a path that is a single file, one that is a symlink.
{ pkgs, uBoot }:
let
  library = pkgs.runCommand "library" { } ''
    mkdir -p "$out/lib/empty-directory"
    head -c 3000000 /dev/zero | tr '\0' 'x' > "$out/lib/library.so.1"
    ln -s library.so.1 "$out/lib/library.so"
    : > "$out/lib/empty-file"
  '';
  program = pkgs.runCommand "program" { } ''
    mkdir -p "$out/bin" "$out/share/data"
    printf '#!/bin/sh\nexec ${library}/lib/library.so\n' > "$out/bin/program"
    chmod +x "$out/bin/program"
    for i in {1..300}; do
      echo "file $i" > "$out/share/data/$i"
    done
  '';
  link = pkgs.runCommand "link" { } ''ln -s ${program}/bin/program "$out"'';

  # As NixOS's builder of extlinux files is called, but in a few lines.
  populate = pkgs.writeScriptBin "populate" ''
    #!/bin/sh
    set -eu
    while getopts g:t:c:d: option; do
      case $option in
        c) toplevel=$OPTARG ;;
        d) boot=$OPTARG ;;
        *) ;;
      esac
    done
    mkdir -p "$boot/nixos" "$boot/extlinux"
    cp "$toplevel/kernel" "$boot/nixos/kernel"
    echo "LINUX ../nixos/kernel" > "$boot/extlinux/extlinux.conf"
  '';
  firmware = pkgs.runCommand "firmware" { } ''
    mkdir -p "$out/EFI"
    echo firmware > "$out/EFI/firmware.bin"
  '';
in
{
  system.build.toplevel = pkgs.runCommand "nixos-system-example" { } ''
    mkdir "$out"
    ln -s ${program} "$out/sw"
    ln -s ${link} "$out/link"
    echo kernel > "$out/kernel"
    printf '#!/bin/sh\n' > "$out/init"
    chmod +x "$out/init"
  '';

  fileSystems = {
    "/boot" = {
      device = "/dev/disk/by-uuid/2178-694E";
      fsType = "vfat";
    };
    "/" = {
      device = "/dev/disk/by-uuid/0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11";
      fsType = "ext4";
    };
  };

  boot.loader.generic-extlinux-compatible = {
    enable = true;
    populateCmd = "${populate}/bin/populate -g 20 -t 5";
  };

  sane.image = {
    bootPartSize = 64 * 1024 * 1024;
    nixFreeSpace = 64 * 1024 * 1024;
    extraBootFiles = [ firmware ];
    extraDirectories = [ "/var/log" ];
    inherit ((import ../hosts/own-files.nix).sane.image) files;
    # Where the boot ROM of a Rockchip board looks: sector 64, in the gap before the partitions.
    installBootloader = ''
      dd if=${uBoot} of=$out/nixos.img bs=512 seek=64 conv=notrunc status=none
    '';
  };
}
